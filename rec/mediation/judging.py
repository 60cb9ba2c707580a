"""What the reward models of a round say beyond one score per response, fold by fold.

The rule of the reward holds here too: a train user is judged by the models of the user's own fold
alone, of which the mean counts, validation users by all models, test users by none.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import polars as pl
import torch

from rec.errors import RecError
from rec.mediation.agreement import Opinions, opinions
from rec.mediation.halves import Halves, Integers, halves, joined
from rec.rerank.features import Features, Knowledge
from rec.rerank.ranking import Judged, judge_pairs, positive_rows
from rec.reward import RewardModel, fold_users, judge_users, score_fold, score_valid
from rec.seeds import derive_seed

USERS = 500  # train users of a fold whose lists are judged in halves
TEXTS = 12  # of the swap test: the user's own and those of 11 others


@dataclass(frozen=True)
class FoldJudgement:
    """What one fold's models made of the texts of a round."""

    responses: Halves  # of train users of the fold, each of their own responses
    swapped: Halves  # of the same users, texts of several of them
    valid: list[Judged]  # by each model, of validation users, their responses (`without_first`)
    fresh: pl.DataFrame  # SCORES of the next policy's responses, train and validation users


@dataclass(frozen=True)
class RoundJudgement:
    """What all models of a round made of them; `valid` is their mean, `each` the models' own."""

    responses: Halves
    swapped: Halves
    valid: Halves
    each: list[Halves]  # of validation users' responses, by each of the models
    opinions: Opinions  # the same on all lists
    fresh: list[pl.DataFrame]


def judge_fold(
    models: list[RewardModel], features: Features, knowledge: Knowledge, fresh: Knowledge
) -> FoldJudgement:
    """Judge the responses that the round judges in halves, and score those of the next policy.

    `models` are those of one fold; `knowledge` and `fresh` hold the responses of the policy before
    the round and after it.
    """
    users = chosen_users(features, models[0])
    valid = features.users_of("valid")
    scored = [
        score(model, features, fresh) for model in models for score in (score_fold, score_valid)
    ]
    return FoldJudgement(
        responses=_in_halves(models, features, knowledge, users),
        swapped=_swapped(models, features, knowledge, users),
        valid=[
            without_first(judge_users(model, features, knowledge, valid), features, knowledge)
            for model in models
        ],
        fresh=pl.concat(scored),
    )


def without_first(judged: Judged, features: Features, knowledge: Knowledge) -> Judged:
    """What was judged of validation users without their first response.

    Every model stopped early at the epoch that was best on their lists with that response, so that
    all of them are a little for it. With fewer than three responses of a user nothing is left to
    compare without it: it stays.
    """
    assert knowledge.first is not None and knowledge.count is not None
    owners = features.list_user.cpu().numpy()[judged.rows]
    first, count = (column.cpu().numpy()[owners] for column in (knowledge.first, knowledge.count))
    kept = (judged.responses != first) | (count < 3)
    columns = {field.name: getattr(judged, field.name)[kept] for field in fields(judged)}
    return Judged(**columns)


def chosen_users(features: Features, reward: RewardModel) -> list[str]:
    """At most `USERS` of the users that a fold's model has to score, by a hash, in their order."""
    users = fold_users(features, reward)
    kept = sorted(users, key=lambda user: (derive_seed(reward.seed, "halves", user), user))[:USERS]
    return sorted(kept, key=features.user_numbers.__getitem__)


def _in_halves(
    models: list[RewardModel], features: Features, knowledge: Knowledge, users: list[str]
) -> Halves:
    if not users:
        return _nothing()
    judged = [judge_users(model, features, knowledge, users) for model in models]
    return halves(mean_judged(judged), features)


def _swapped(
    models: list[RewardModel], features: Features, knowledge: Knowledge, users: list[str]
) -> Halves:
    """The users' lists with their own first response and with those of others of the fold."""
    if len(users) < 2:
        return _nothing()
    assert knowledge.first is not None
    numbers = np.array([features.user_numbers[user] for user in users])
    first = models[0]
    others = swaps(len(users), TEXTS - 1, derive_seed(first.seed, "swap", first.fold))
    texts = knowledge.first.cpu().numpy()[numbers[others]]
    rows = positive_rows(features, users, f"fold {first.fold}")
    place = np.searchsorted(numbers, features.list_user.cpu().numpy()[rows.cpu().numpy()])
    told = torch.from_numpy(texts[place].reshape(-1)).to(rows.device)
    repeated = rows.repeat_interleave(texts.shape[1])
    judged = [judge_pairs(one.model, features, knowledge, repeated, told) for one in models]
    return halves(mean_judged(judged), features)


def swaps(users: int, others: int, seed: int) -> Integers:
    """For each of `users` (2 or more) the user and at most `others` different ones, at random.

    Returns [users, 1 + others], the user in the first column.
    """
    generator = np.random.default_rng(seed)
    others = min(others, users - 1)
    drawn = np.stack([generator.choice(users - 1, others, replace=False) for _ in range(users)])
    own = np.arange(users)[:, None]
    return np.concatenate([own, drawn + (drawn >= own)], axis=1)


def _nothing() -> Halves:
    none, numbers = np.zeros((0, 2)), np.zeros(0, dtype=np.int64)
    return Halves(numbers, numbers, none, none)


def judge_round(parts: list[FoldJudgement], features: Features) -> RoundJudgement:
    """The judgements of all folds as one.

    Raises RecError where the models judged different lists.
    """
    valid = [judged for part in parts for judged in part.valid]
    return RoundJudgement(
        responses=joined([part.responses for part in parts]),
        swapped=joined([part.swapped for part in parts]),
        valid=halves(mean_judged(valid), features),
        each=[halves(judged, features) for judged in valid],
        opinions=opinions(valid, features),
        fresh=[part.fresh for part in parts],
    )


def mean_judged(parts: list[Judged]) -> Judged:
    """The mean over models of what they made of the same lists and texts.

    Raises RecError where they judged others.
    """
    first = parts[0]
    for part in parts:
        same = np.array_equal(part.rows, first.rows)
        if not (same and np.array_equal(part.responses, first.responses)):
            raise RecError("reward models judged different lists; train them again")
    names = ("ndcg", "average_precision", "log_likelihood")
    means = {name: np.mean([getattr(part, name) for part in parts], axis=0) for name in names}
    return replace(first, **means)
