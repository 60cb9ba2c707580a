"""Do reward models agree about a user's responses, on the same lists?

Beside the reliability between halves of the lists (`rec.mediation.halves`) this says more about
where noise comes from: what two models make of the same responses and lists differs by what is
noise in a model; lists are the same. It is an upper bound: models of different folds share most of
their train users, and stopped early on these lists with other responses. It is of single models on
all lists, the reliability of validation users of the models' mean on halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rec.mediation.halves import Integers, user_groups
from rec.mediation.resampling import Estimate, Floats, estimate, ratio_of
from rec.rerank.features import Features
from rec.rerank.ranking import Judged


@dataclass(frozen=True)
class Opinions:
    """T responses, each judged by M models over all lists of its user; sorted by user, response."""

    owners: Integers  # [T]
    ndcg: Floats  # [T, M]
    log_likelihood: Floats  # [T, M]


def opinions(parts: Sequence[Judged], features: Features) -> Opinions:
    """The mean scores of each response by each of the models, which judged the same lists."""
    first = parts[0]
    owner = features.list_user.cpu().numpy()[first.rows]
    texts = int(first.responses.max(initial=0)) + 1
    units, unit = np.unique(owner * texts + first.responses, return_inverse=True)
    lists = np.bincount(unit)

    def means(name: str) -> Floats:
        columns = [np.bincount(unit, weights=getattr(part, name)) / lists for part in parts]
        return np.stack(columns, axis=1)

    return Opinions(units // texts, means("ndcg"), means("log_likelihood"))


def agreement(scores: Floats, owners: Integers, resamples: int, seed: int) -> Estimate:
    """Agreement of models about scores relative to their user's mean, over all pairs of models.

    `scores` [T, M] of the responses of `owners` [T]. The mean covariance of two models by the mean
    variance of one, summed over users: the consistency form of the intraclass correlation for a
    single rater, ICC(3,1) (Shrout and Fleiss 1979, Psychological Bulletin 86). It is 0 where models
    have nothing in common; with fewer than two models there is none.

    Two models that give a user's two responses 0 and 2, and 0 and 1: covariance 1, variances 2 and
    .5.

    >>> scores = np.array([[0.0, 0.0], [2.0, 1.0], [0.0, 0.0], [2.0, 1.0]])
    >>> agreement(scores, np.array([0, 0, 1, 1]), 10, seed=1).value
    0.8
    """
    if scores.shape[1] < 2:
        return Estimate(None, None, None, 0)
    rows = []
    for group in user_groups(owners):
        covariance = np.cov(scores[group].T)
        models = len(covariance)
        own = np.trace(covariance)
        rows.append(((covariance.sum() - own) / models / (models - 1), own / models))
    sums = np.array(rows).reshape(-1, 2)
    return estimate(ratio_of(sums, _ratio), len(sums), resamples, seed)


def _ratio(sums: Floats) -> Floats:
    shared, own = sums
    return np.where(own > 1e-12, shared / own, np.nan)
