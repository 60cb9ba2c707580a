"""What a comparison's users and seeds can show, and how many users it would take.

A difference is called significant where its p, the larger of two tests, passes Holm's correction
and its interval excludes 0 (`rec.comparison.result`). Here is the power of that rule, for values
that are normal and vary as those that were seen. The rule depends on the mean and on three mean
squares: between users, between seeds, and of the rest. Of such values these are independent, the
mean normal and each mean square its expectation times chi-squared by degrees of freedom (Searle,
Casella and McCulloch 1992, chapter 4). The mean squares thus set the limit that the mean must pass,
and power is the chance that it does, averaged over their outcomes. No degrees of freedom are fixed
beforehand: those of the t-test follow from the data, are few where seeds differ, and an outcome
with few of them asks for a much larger mean.

The sign-flip test counts as the t-test over users, which asks for no more than that over both. With
few users it asks for more, and the power is lower than is said here. Seeds that were few tell
little of how much seeds differ, and no figure is surer than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy.stats import qmc

from rec.comparison.components import Components, variance_and_freedom
from rec.comparison.intervals import ENDS
from rec.distributions import rounded

Array = npt.NDArray[np.float64]

POWER = 0.8
#: The difference that is looked for: so much of the base LLM's value.
SHARE = 0.005
#: What a metric between 0 and 1 can differ by.
LARGEST = 1.0
#: More test users than any data set has.
MOST_USERS = 10**8
#: Of the mean squares, as a power of 2; figures are exact to about half a percent.
OUTCOMES = 11


@dataclass(frozen=True)
class Power:
    """What a comparison can show at 80% power, by the rule that decides what is significant.

    Differences are in the unit of the metric, NDCG@5 from 0 to 1.
    """

    of: str  # slugs of the variants that were compared
    to: str
    users: int
    seeds: int
    sought: float  # the difference that is looked for: 0.5% of the base LLM's value
    users_needed: int | None  # to find it with as many seeds; None: no number of users would do
    detectable: float | None  # the difference that `users` can find; None: they can find none


@dataclass(frozen=True)
class Design:
    """How differences vary (in squares of their unit), over how many seeds, and which p decides.

    With Holm's correction that is 0.05 by the number of comparisons of the family, as for the first
    of them; where others are significant too, the power is larger.
    """

    spread: Components
    seeds: int
    level: float

    @property
    def least_users(self) -> int:
        """With fewer, no p of the sign-flip test is at most `level`: it is 2^(1 - users) or more.

        >>> Design(Components(1.0, 0.0, 0.0), 3, 0.05).least_users
        6
        """
        return math.ceil(1 - math.log2(self.level))

    def chance(self, users: int) -> Callable[[float], float]:
        """From a true mean difference to the chance that it is called significant."""
        spread, seeds = self.spread, self.seeds
        variance = spread.users / users + spread.seeds / seeds + spread.rest / (users * seeds)
        error = max(math.sqrt(variance), 1e-12)
        limits = self._limits(users)
        return lambda difference: float(special.ndtr((difference - limits) / error).mean())

    def _limits(self, users: int) -> Array:
        """What the mean must pass to be significant, in equally likely outcomes [2^OUTCOMES].

        The limit of the t-test and that of the interval, the latter as if resampled means were
        normal. Their variance, with mean squares U, S and R of n users and s seeds, is
        ((n - 1)/n U + (s - 1)/s S + (n - 1)(s - 1)/(n s) R) / (n s): multinomial weights, of users
        with variance 1 - 1/n and of seeds with 1 - 1/s, independent of each other, which meet the
        effects of users, of seeds, and what is left, that sum to 0 over either.
        """
        squares = self._mean_squares(users)
        variance, freedom = variance_and_freedom(squares, self.seeds, users)
        kept = np.array([1 - 1 / users, 1 - 1 / self.seeds, (1 - 1 / users) * (1 - 1 / self.seeds)])
        resampled = kept @ squares / (users * self.seeds)
        limits: Array = np.maximum(
            special.stdtrit(freedom, 1 - self.level / 2) * np.sqrt(variance),
            NormalDist().inv_cdf(ENDS[1]) * np.sqrt(resampled),
        )
        return limits

    def _mean_squares(self, users: int) -> Array:
        """Equally likely outcomes [3, 2^OUTCOMES] of the mean squares, spread evenly (Sobol)."""
        spread, seeds = self.spread, self.seeds
        expected = (
            seeds * spread.users + spread.rest,
            users * spread.seeds + spread.rest,
            spread.rest,
        )
        freedom = (users - 1, seeds - 1, (users - 1) * (seeds - 1))
        chances = qmc.Sobol(3, scramble=False).random_base2(OUTCOMES).T + 0.5 / 2**OUTCOMES
        return np.stack(
            [
                mean * special.chdtri(free, chance) / free if free else np.zeros_like(chance)
                for mean, free, chance in zip(expected, freedom, chances, strict=True)
            ]
        )


def detectable(design: Design, users: int) -> float | None:
    """The mean difference that so many users find with 80% power, None where they find none.

    By hand: without any spread between seeds, at level 0.05, 785 users find a tenth of the
    deviation over users, (1.960 + 0.842) / sqrt(785).

    >>> round(detectable(Design(Components(1.0, 0.0, 0.0), 3, 0.05), 785), 3)
    0.1
    """
    if users < design.least_users:
        return None
    chance = design.chance(users)
    low, high = 0.0, LARGEST
    if chance(high) < POWER:
        return None
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) >= POWER else (middle, high)
    return high


def users_needed(design: Design, difference: float) -> int | None:
    """The least number of users who find a mean `difference` with 80% power.

    None where no number of users does, as the spread between few seeds stays. More users may even
    find less: the larger the seeds' part of what is left, the fewer the degrees of freedom. Numbers
    are therefore tried from below, each a fifth above the one before, and then by halves between
    the first that suffices and the one before it; fewer might do between two that were tried.

    >>> users_needed(Design(Components(1.0, 1.0, 0.0), 3, 0.05), 0.1) is None
    True
    """

    def suffices(users: int) -> bool:
        return design.chance(users)(difference) >= POWER

    low, high = 1, design.least_users
    while not suffices(high):
        low, high = high, high + max(1, high // 5)
        if high > MOST_USERS:
            return None
    low = max(low, design.least_users - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def power(of: str, to: str, users: int, design: Design, base: float) -> Power:
    """The power of the comparison of two variants, where the base LLM's value is `base`."""
    sought = SHARE * base
    found = detectable(design, users)
    return Power(
        of=of,
        to=to,
        users=users,
        seeds=design.seeds,
        sought=rounded(sought),
        users_needed=users_needed(design, sought),
        detectable=None if found is None else rounded(found),
    )
