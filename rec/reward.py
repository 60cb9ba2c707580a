"""The reward model: a response is worth what a knowledge-augmented re-ranker makes of it.

DPO4Rec (arXiv 2410.05939, section on the reward model) scores a response by the NDCG that the
re-ranker reaches on its user's later lists when it is given that response. A re-ranker that was
trained on those very lists knows their labels, so the models here are cross-fitted: the train users
are cut into folds, and each fold is scored by the model that was trained without it. No model was
trained on validation users: theirs is the mean score of all models. They are no strangers to them,
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
Halves = tuple[Floats, npt.NDArray[np.int64]]  # scores [responses, 2], user of each response


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
) -> tuple[RewardModel, Trained]:
    """Train on the train users outside of `fold`, stop early on the validation users.

    Raises RecError where the folds leave no users to train on.
    """
    users = [u for u in features.users_of("train") if fold_of(seed, u, folds) != fold]
    if not users:
        raise RecError(
            f"reward.folds: fold {fold} of {folds} leaves no train user; use fewer folds"
        )
    trained = train(
        features, knowledge, config, backbone, seed + fold, users, features.users_of("valid")
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
    """SCORES rows of all models as one table, the mean where several scored the same response."""
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


def halves(judged: Judged, features: Features) -> Halves:
    """Mean NDCG@5 of each response on every other list of its user, and on the rest.

    Returns [responses, 2] and the user number of each response; users of one list are left out.
    """
    owner = features.list_user.cpu().numpy()[judged.rows]
    lists, first = np.unique(judged.rows, return_index=True)
    _, start, count = np.unique(owner[first], return_index=True, return_counts=True)
    turn = np.empty(len(lists), dtype=np.int64)
    for begin, length in zip(start, count, strict=True):
        turn[begin : begin + length] = np.arange(length)
    half = turn[np.searchsorted(lists, judged.rows)] % 2
    responses, place = np.unique(judged.responses, return_inverse=True)
    cell = place * 2 + half
    number = np.bincount(cell, minlength=2 * len(responses)).reshape(-1, 2)
    total = np.bincount(cell, weights=judged.ndcg, minlength=2 * len(responses)).reshape(-1, 2)
    users = np.empty(len(responses), dtype=np.int64)
    users[place] = owner
    both = (number > 0).all(1)
    return total[both] / number[both], users[both]


def reliability(scores: Floats, users: npt.NDArray[np.int64]) -> dict[str, float | int | None]:
    """Split-half reliability of the reward among the responses of the same user.

    `scores` is [responses, 2] as `halves` gives it. `r`: correlation between the halves of a
    response's score relative to its user's mean. `best_minus_worst`: how much better the response
    that is best on one half is on the other half than the worst. Near 0: the reward is noise, and
    so are pairs made from it.

    >>> same = np.array([[1.0, 0.9], [0.0, 0.1]])
    >>> reliability(same, np.array([7, 7]))
    {'users': 1, 'r': 1.0, 'best_minus_worst': 0.9}
    """
    deviations, gains = [], []
    for user in np.unique(users):
        own = scores[users == user]
        if len(own) > 1:
            deviations.append(own - own.mean(0))
            gains += [
                own[own[:, a].argmax(), 1 - a] - own[own[:, a].argmin(), 1 - a] for a in (0, 1)
            ]
    if not deviations:
        return {"users": 0, "r": None, "best_minus_worst": None}
    first, second = np.concatenate(deviations).T
    spread = float(np.sqrt((first**2).sum() * (second**2).sum()))
    r = round(float((first * second).sum()) / spread, 4) if spread > 0 else None
    return {"users": len(deviations), "r": r, "best_minus_worst": round(float(np.mean(gains)), 6)}


def weights_path(folder: Path, fold: int) -> Path:
    """Where a fold's weights lie in the folder of a round's reward models."""
    return folder / f"fold-{fold}.safetensors"


def describe(seed: int, folds: int, results: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of reward.json, from which `load_models` learns who was trained on whom."""
    return {"seed": seed, "folds": folds, "models": results}


def load_models(folder: Path) -> list[RewardModel]:
    """Read a round's reward models. Raises RecError where a file is missing or damaged."""
    path = folder / "reward.json"
    described = read_json(path)
    try:
        seed, folds = int(described["seed"]), int(described["folds"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecError(f"{path}: it must hold the numbers 'seed' and 'folds'") from error
    return [
        RewardModel(load(weights_path(folder, fold), device()), fold, folds, seed)
        for fold in range(folds)
    ]
