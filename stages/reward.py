"""Stage reward ROUND: the reward models of a round, one per fold of the train users."""

from pathlib import Path
from typing import Any

import click
import numpy as np

from rec.config import Params, judged_policy
from rec.files import atomic_path, write_json
from rec.rerank.reranker import save
from rec.reward import (
    Halves,
    describe,
    fold_users,
    halves,
    judge_users,
    reliability,
    train_fold,
    weights_path,
)
from stages import inputs, layout
from stages.runner import stage

RELIABILITY_USERS = 500  # per fold


@stage
@click.argument("round_", metavar="ROUND", type=int)
def main(params: Params, round_: int) -> None:
    """Train the cross-fitted reward models on the responses that the round judges."""
    policy, folds = judged_policy(params, round_), params.reward.folds
    with atomic_path(layout.reward(round_)) as folder:
        calls = [(params, policy, fold, folder) for fold in range(folds)]
        results = inputs.side_by_side(params, run, calls)
        described = describe(params.seed, folds, [curve for curve, _ in results])
        scores, users = zip(*(found for _, found in results), strict=True)
        found = reliability(np.concatenate(scores), np.concatenate(users))
        write_json(folder / "reward.json", {**described, "policy": policy, "split_half": found})


def run(params: Params, policy: str, fold: int, folder: Path) -> tuple[dict[str, Any], Halves]:
    """Train and save one fold's model: its curve, and what tells how reliable its scores are."""
    features = inputs.features(params)
    knowledge = inputs.policy_knowledge(features, policy, params)
    folds = params.reward.folds
    reward, trained = train_fold(
        features, knowledge, params.ranker, params.reward.backbone, params.seed, fold, folds
    )
    folder.mkdir(exist_ok=True)
    save(reward.model, weights_path(folder, fold))
    users = fold_users(features, reward)[:RELIABILITY_USERS]
    if users:
        found = halves(judge_users(reward, features, knowledge, users), features)
    else:
        found = (np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
    return {"fold": fold, **trained.as_json()}, found


if __name__ == "__main__":
    main()
