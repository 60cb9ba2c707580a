"""How many users a comparison needs, and what its users can detect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from rec.comparison.components import Components

POWER = 0.8
LEVEL = 0.05
#: The difference that is looked for: so much of the base LLM's value.
SHARE = 0.005


@dataclass(frozen=True)
class Power:
    """What a paired comparison can show, at 80% power and two-sided alpha 0.05.

    The normal approximation, from the variance over users, seeds and the rest that was seen; for
    one comparison alone, without correction for others.
    """

    of: str  # slugs of the variants that were compared
    to: str
    users: int
    seeds: int
    sought: float  # the difference that is looked for: 0.5% of the base LLM's value
    users_needed: int | None  # to find it with as many seeds; None: no number of users would do
    detectable: float  # the difference that `users` can find


def users_needed(spread: Components, seeds: int, difference: float) -> int | None:
    """How many users it takes to find a mean `difference` with so many seeds, 2 or more.

    The variance of the mean is users / n + seeds / S + rest / (n S); it must be that of a
    difference z(1 - alpha/2) + z(power) = 2.802 standard errors from 0. None where the seeds alone
    are too much.

    By hand: without any spread between seeds, a difference of a tenth of the deviation over users
    takes 28.02^2 = 785 users.

    >>> users_needed(Components(1.0, 0.0, 0.0), 3, 0.1)
    785
    >>> users_needed(Components(1.0, 1.0, 0.0), 3, 0.1) is None
    True
    """
    left = (difference / _distance()) ** 2 - spread.seeds / seeds
    if left <= 0:
        return None
    return max(2, math.ceil((spread.users + spread.rest / seeds) / left - 1e-9))


def detectable(spread: Components, users: int, seeds: int) -> float:
    """The mean difference that so many users and seeds find with 80% power.

    >>> round(detectable(Components(1.0, 0.0, 0.0), 785, 3), 3)
    0.1
    """
    variance = spread.users / users + spread.seeds / seeds + spread.rest / (users * seeds)
    return _distance() * math.sqrt(variance)


def power(of: str, to: str, users: int, seeds: int, spread: Components, base: float) -> Power:
    """The power of the comparison of two variants, where the base LLM's value is `base`."""
    sought = SHARE * base
    needed = users_needed(spread, seeds, sought) if sought > 0 else 0
    return Power(of, to, users, seeds, sought, needed, detectable(spread, users, seeds))


def _distance() -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(POWER)
