"""Stage reward ROUND: train the reward models of a round, cross-fitted over train users."""

from itertools import product
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
    policy, folds, models = judged_policy(params, round_), params.reward.folds, params.reward.models
    with atomic_path(layout.reward(round_)) as folder:
        each = product(range(folds), range(models))
        calls = [(params, policy, fold, number, folder) for fold, number in each]
        results = inputs.side_by_side(params, run, calls)
        described = describe(params.seed, folds, models, results)
        write_json(folder / "reward.json", {**described, "policy": policy})


def run(params: Params, policy: str, fold: int, number: int, folder: Path) -> dict[str, Any]:
    """Train and save one model of a fold; its curve."""
    features = inputs.features(params)
    knowledge = inputs.policy_knowledge(features, policy, params.reward.text)
    folds = params.reward.folds
    reward, trained = train_fold(
        features, knowledge, params.ranker, params.reward.backbone, params.seed, fold, folds, number
    )
    folder.mkdir(exist_ok=True)
    save(reward.model, weights_path(folder, fold, number))
    return {"fold": fold, "model": number, **trained.as_json()}


if __name__ == "__main__":
    main()
