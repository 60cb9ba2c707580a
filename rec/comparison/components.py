"""Where the spread of paired differences comes from: users, seeds, and neither alone.

A mean over users and seeds is uncertain through both. Its variance is that of a two-way random
layout without repetition (Searle, Casella and McCulloch 1992, chapter 4): a difference is the mean
plus an effect of the user, one of the seed, and a rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """The variances of differences [seeds, users]; with one seed, that of users has the rest."""

    users: float
    seeds: float
    rest: float


def _mean_squares(differences: Array) -> tuple[float, float, float]:
    """Mean squares between users, between seeds, and of the rest; the last two 0 with one seed."""
    seeds, users = differences.shape
    mean, by_seed, by_user = (differences.mean(axis=a) for a in (None, 1, 0))
    between_users = float(seeds * by_user.var(ddof=1))
    if seeds == 1:
        return between_users, 0.0, 0.0
    rest = differences - by_user[None, :] - by_seed[:, None] + mean
    return (
        between_users,
        float(users * by_seed.var(ddof=1)),
        float((rest**2).sum() / ((seeds - 1) * (users - 1))),
    )


def components(differences: Array) -> Components:
    """The variance components of differences [seeds, users], by the method of moments, 0 or more.

    By hand: two users worth 0 and 2 with both of two seeds: the variance over users is 2, and
    nothing else varies.

    >>> components(np.array([[0.0, 2.0], [0.0, 2.0]]))
    Components(users=2.0, seeds=0.0, rest=0.0)
    """
    seeds, users = differences.shape
    by_user, by_seed, rest = _mean_squares(differences)
    return Components(
        users=max(0.0, (by_user - rest) / seeds),
        seeds=max(0.0, (by_seed - rest) / users),
        rest=rest,
    )


def two_way_p(differences: Array) -> float:
    """Two-sided p-value of the mean of differences [seeds, users], both users and seeds random.

    A t-test whose variance is (MS_users + MS_seeds - MS_rest) / (seeds * users), not less than that
    of users alone, with Satterthwaite's degrees of freedom: with three seeds that differ, about
    two. They are not less than those of the seeds (or of the users, where there are fewer), which
    Satterthwaite's formula falls below when a mean square is subtracted. With one seed it is the
    t-test over users. 1 where all differences are 0, 0 where all are the same otherwise.
    """
    seeds, users = differences.shape
    variance, freedom = variance_and_freedom(np.array(_mean_squares(differences)), seeds, users)
    mean = float(differences.mean())
    if variance <= 1e-24:
        return 1.0 if abs(mean) <= 1e-12 else 0.0
    return float(2 * stats.t.sf(abs(mean) / np.sqrt(variance), freedom))


def variance_and_freedom(squares: Array, seeds: int, users: int) -> tuple[Array, Array]:
    """The variance of the mean, and its degrees of freedom, by which `two_way_p` tests.

    `squares` [3, ...] are mean squares between users, between seeds, and of the rest.
    """
    by_user, by_seed, rest = squares
    extra = np.maximum(0.0, by_seed - rest)
    of_users, of_seeds = users - 1, max(1, seeds - 1)
    terms = by_user**2 / of_users + by_seed**2 / of_seeds + rest**2 / (of_seeds * of_users)
    freedom = (by_user + extra) ** 2 / np.maximum(terms, 1e-300)
    freedom = np.maximum(freedom, min(of_users, of_seeds))
    return (by_user + extra) / (seeds * users), np.where(extra > 0, freedom, of_users)
