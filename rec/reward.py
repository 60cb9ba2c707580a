"""The reward model: a response is worth what a knowledge-augmented re-ranker makes of it.

DPO4Rec (arXiv 2410.05939, section on the reward model) scores a response by the NDCG that the
re-ranker reaches on its user's later lists when it is given that response. A re-ranker that was
trained on those very lists knows their labels, so the models here are cross-fitted: the train users
are cut into folds, and each fold is scored by the models that were trained without it: one, or the
mean of several of other seeds, which holds less of one model's own taste. No model was trained on
validation users: theirs is the mean score of all models. They are no strangers to them,
however: each model stopped at the epoch that was best on their lists.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from rec.config import Ranker
from rec.errors import RecError
from rec.files import read_json
from rec.machine import device
from rec.rerank.features import Features, Knowledge
from rec.rerank.ranking import Judged, judge, positive_rows
from rec.rerank.reranker import Reranker, load
from rec.rerank.training import Trained, train
from rec.tables import ALL_FOLDS, SCORES

Floats = npt.NDArray[np.float64]


def fold_of(seed: int, user: str, folds: int) -> int:
    """The fold of a train user; the same on every machine and for every set of users."""
    digest = hashlib.blake2b(f"{seed}:{user}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % folds


@dataclass(frozen=True)
class RewardModel:
    """One fold's re-ranker, with what is needed to know which users it was trained on."""

    model: Reranker
    fold: int
    folds: int
    seed: int

    def may_score(self, user: str, split: str) -> bool:
        """Whether this model never trained on the user: train users of its fold, validation users.

        On validation users it stopped early, so that their scores are a little flattered: they may
        be compared with each other, and stand for nothing else. Test users are never scored.
        """
        if split == "train":
            return fold_of(self.seed, user, self.folds) == self.fold
        return split == "valid"


def train_fold(
    features: Features,
    knowledge: Knowledge,
    config: Ranker,
    backbone: str,
    seed: int,
    fold: int,
    folds: int,
    number: int = 0,
) -> tuple[RewardModel, Trained]:
    """Train on the train users outside of `fold`, stop early on the validation users.

    `number` tells the models of a fold apart, which differ by their random draws alone.
    Raises RecError where the folds leave no users to train on.
    """
    users = [u for u in features.users_of("train") if fold_of(seed, u, folds) != fold]
    if not users:
        raise RecError(
            f"reward.folds: fold {fold} of {folds} leaves no train user; use fewer folds"
        )
    trained = train(
        features,
        knowledge,
        config,
        backbone,
        seed + fold + number * folds,
        users,
        features.users_of("valid"),
    )
    return RewardModel(trained.model, fold, folds, seed), trained


def fold_users(features: Features, reward: RewardModel) -> list[str]:
    """The train users that a fold's model has to score: those of its fold with a positive list."""
    return [user for user in _known(features, "train") if reward.may_score(user, "train")]


def _known(features: Features, split: str) -> list[str]:
    """The users of a split that have a list with a positive."""
    numbers = torch.unique(features.list_user[features.positive]).tolist()
    return [features.users[number] for number in numbers if features.splits[number] == split]


def judge_users(
    reward: RewardModel, features: Features, knowledge: Knowledge, users: list[str]
) -> Judged:
    """Re-rank the users' lists (those with a positive) with each of their responses.

    Raises RecError for a user that the model was trained on and for test users.
    """
    for user in users:
        if not reward.may_score(user, features.splits[features.user_numbers[user]]):
            raise RecError(
                f"reward model of fold {reward.fold} must not score user {user!r}: it learned from "
                "them, or they are a test user"
            )
    rows = positive_rows(features, users, f"fold {reward.fold}")
    return judge(reward.model, features, knowledge, rows)


def score_fold(reward: RewardModel, features: Features, knowledge: Knowledge) -> pl.DataFrame:
    """SCORES rows of a fold's train users: the mean over a user's lists, for each response."""
    users = fold_users(features, reward)
    return _scores(reward, features, knowledge, users, reward.fold)


def score_valid(reward: RewardModel, features: Features, knowledge: Knowledge) -> pl.DataFrame:
    """SCORES rows of the validation users by one model; `mean_over_folds` makes one of all."""
    return _scores(reward, features, knowledge, _known(features, "valid"), ALL_FOLDS)


def mean_over_folds(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """SCORES rows of all models as one table, the mean where several scored the same response.

    Those are the models of a train user's fold, and all models for a validation user.
    """
    measures = ("ndcg@5", "map@5", "log_likelihood")
    return (
        pl.concat(tables)
        .group_by("user", "sample", "fold", maintain_order=True)
        .agg(pl.col(measures).mean(), pl.col("lists").first())
        .sort("user", "sample")
    )


def _scores(
    reward: RewardModel, features: Features, knowledge: Knowledge, users: list[str], fold: int
) -> pl.DataFrame:
    if not users:
        return pl.DataFrame(schema=dict(SCORES))
    judged = judge_users(reward, features, knowledge, users)
    assert knowledge.samples is not None
    responses, first, place = np.unique(judged.responses, return_index=True, return_inverse=True)
    count = np.bincount(place)
    owner = features.list_user.cpu().numpy()[judged.rows[first]]

    def means(values: Floats) -> Floats:
        found: Floats = np.bincount(place, weights=values) / count
        return found

    table = pl.DataFrame(
        {
            "user": [features.users[number] for number in owner],
            "sample": knowledge.samples.cpu().numpy()[responses],
            "fold": np.full(len(responses), fold),
            "ndcg@5": means(judged.ndcg),
            "map@5": means(judged.average_precision),
            "log_likelihood": means(judged.log_likelihood),
            "lists": count,
        },
        schema_overrides=dict(SCORES),
    )
    return table.sort("user", "sample")


def weights_path(folder: Path, fold: int, number: int = 0) -> Path:
    """Where the weights of a fold's model lie in the folder of a round's reward models."""
    return folder / f"fold-{fold}-{number}.safetensors"


def describe(seed: int, folds: int, per_fold: int, results: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of reward.json, from which `load_models` learns who was trained on whom."""
    return {"seed": seed, "folds": folds, "per_fold": per_fold, "models": results}


def load_models(folder: Path) -> list[RewardModel]:
    """A round's reward models, fold by fold. Raises RecError for a missing or damaged file."""
    path = folder / "reward.json"
    described = read_json(path)
    try:
        seed, folds, per_fold = (int(described[key]) for key in ("seed", "folds", "per_fold"))
    except (KeyError, TypeError, ValueError) as error:
        numbers = "'seed', 'folds' and 'per_fold'"
        raise RecError(f"{path}: it must hold the numbers {numbers}") from error
    return [
        RewardModel(load(weights_path(folder, fold, number), device()), fold, folds, seed)
        for fold in range(folds)
        for number in range(per_fold)
    ]
