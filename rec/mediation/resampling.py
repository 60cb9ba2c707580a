"""Bootstrap intervals over users for any figure that is made of sums over users.

A resample draws as many users as there are, with replacement, and with a user all of the user's
texts and lists: what belongs to one user is not independent. It is written as weights, how often
each user was drawn, so that a figure is a function of weights and needs no loop over users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: From weights [B, users] to a figure of each of the B resamples; NaN where there is none.
Statistic = Callable[[Floats], Floats]

CHUNK = 128  # resamples held in memory at once


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval. All are None where the users cannot tell it."""

    value: float | None
    low: float | None
    high: float | None
    users: int


def estimate(statistic: Statistic, users: int, resamples: int, seed: int) -> Estimate:
    """The figure of the users as they are, and its 95% percentile interval over resamples.

    Fewer than two users say nothing about other users: no interval, and so no figure. Resamples
    without a figure (such as a correlation of constants) are left out.
    """
    if users < 2:
        return Estimate(None, None, None, users)
    value = float(statistic(np.ones((1, users)))[0])
    if not np.isfinite(value):
        return Estimate(None, None, None, users)
    generator = np.random.default_rng(seed)
    shares = np.full(users, 1 / users)
    sizes = [min(CHUNK, resamples - start) for start in range(0, resamples, CHUNK)]
    drawn = np.concatenate(
        [statistic(generator.multinomial(users, shares, size).astype(np.float64)) for size in sizes]
    )
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) == 0:
        return Estimate(None, None, None, users)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high), users)


def mean_of(values: Floats) -> Statistic:
    """The mean over users of `values` [users], one for each.

    >>> estimate(mean_of(np.array([2.0, 2.0, 2.0])), 3, 100, seed=1)
    Estimate(value=2.0, low=2.0, high=2.0, users=3)
    """
    return lambda weights: weights @ values / weights.sum(1)


def ratio_of(sums: Floats, figure: Callable[[Floats], Floats]) -> Statistic:
    """`figure` of sums over users: from [columns, B], the sums of `sums` [users, columns]."""

    def statistic(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return figure((weights @ sums).T)

    return statistic
