"""Stage reward ROUND: the reward models of a round, one per fold of the train users."""

import click
import numpy as np

from rec.config import Params
from rec.files import atomic_path, write_json
from rec.rerank.training import save
from rec.reward import (
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
    inputs.use_threads(params)
    policy = inputs.judged_policy(params, round_)
    features = inputs.features(params)
    knowledge = inputs.knowledge(features, str(policy), params.policies)
    assert knowledge is not None
    results, scores, owners = [], [], []
    with atomic_path(layout.reward(round_)) as folder:
        for fold in range(params.reward.folds):
            reward, trained = train_fold(
                features, knowledge, params.ranker, params.seed, fold, params.reward.folds
            )
            save(reward.model, weights_path(folder, fold))
            results.append({"fold": fold, **trained.as_json()})
            users = fold_users(features, reward)[:RELIABILITY_USERS]
            if users:
                judged = judge_users(reward, features, knowledge, users)
                halved, owner = halves(judged, features)
                scores.append(halved)
                owners.append(owner)
        described = describe(params.seed, params.reward.folds, results)
        found = reliability(np.concatenate(scores), np.concatenate(owners)) if scores else None
        write_json(folder / "reward.json", {**described, "policy": policy, "split_half": found})


if __name__ == "__main__":
    main()
