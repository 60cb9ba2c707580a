"""Stage reward ROUND: the reward models of a round, one per fold of the train users."""

from pathlib import Path
from typing import Any

import click

from rec import layout
from rec.config import Params, judged_policy
from rec.files import atomic_path, write_json
from rec.rerank.reranker import save
from rec.reward import describe, train_fold, weights_path
from stages import inputs
from stages.runner import stage


@stage
@click.argument("round_", metavar="ROUND", type=int)
def main(params: Params, round_: int) -> None:
    """Train the cross-fitted reward models on the responses that the round judges."""
    policy, folds = judged_policy(params, round_), params.reward.folds
    with atomic_path(layout.reward(round_)) as folder:
        calls = [(params, policy, fold, folder) for fold in range(folds)]
        described = describe(params.seed, folds, inputs.side_by_side(params, run, calls))
        write_json(folder / "reward.json", {**described, "policy": policy})


def run(params: Params, policy: str, fold: int, folder: Path) -> dict[str, Any]:
    """Train and save one fold's model; its curve."""
    features = inputs.features(params)
    knowledge = inputs.policy_knowledge(features, policy, params)
    folds = params.reward.folds
    reward, trained = train_fold(
        features, knowledge, params.ranker, params.reward.backbone, params.seed, fold, folds
    )
    folder.mkdir(exist_ok=True)
    save(reward.model, weights_path(folder, fold))
    return {"fold": fold, **trained.as_json()}


if __name__ == "__main__":
    main()
