"""How many users a comparison needs, and what its users can detect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

POWER = 0.8
LEVEL = 0.05
#: The difference that is looked for: so much of the base LLM's value.
SHARE = 0.005


@dataclass(frozen=True)
class Power:
    """What a paired comparison over users can show, at 80% power and two-sided alpha 0.05.

    The normal approximation, from the spread over users of the differences that were seen; for one
    comparison alone, without correction for others, and with the seeds as they are.
    """

    of: str  # slugs of the variants that were compared
    to: str
    users: int
    deviation: float  # standard deviation of the paired differences over users
    sought: float  # the difference that is looked for: 0.5% of the base LLM's value
    users_needed: int  # to find a difference of `sought`
    detectable: float  # the difference that `users` can find


def users_needed(deviation: float, difference: float) -> int:
    """How many users it takes to find a mean `difference`, of paired ones with this `deviation`.

    n = ((z(1 - alpha/2) + z(power)) * deviation / difference)^2, 2 or more.

    By hand: z(0.975) + z(0.8) = 1.960 + 0.842 = 2.802; a difference of a tenth of the deviation
    takes 28.02^2 = 785 users.

    >>> users_needed(1.0, 0.1)
    785
    """
    return max(2, math.ceil((_distance() * deviation / difference) ** 2 - 1e-9))


def detectable(deviation: float, users: int) -> float:
    """The mean difference that so many users find with 80% power.

    >>> round(detectable(1.0, 785), 3)
    0.1
    """
    return _distance() * deviation / math.sqrt(users)


def power(of: str, to: str, users: int, deviation: float, base: float) -> Power:
    """The power of the comparison of two variants, where the base LLM's value is `base`."""
    sought = SHARE * base
    needed = users_needed(deviation, sought) if sought > 0 else 0
    return Power(of, to, users, deviation, sought, needed, detectable(deviation, users))


def _distance() -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(POWER)
