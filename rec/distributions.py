"""What a column of whole numbers looks like, from how often each value occurs.

There are as many values as users or items, but few distinct ones: DuckDB counts them, and the
figures below need no more than the counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from math import ceil
from typing import Any

DIGITS = 6
#: Shares of the items whose share of the interactions is told, most popular first.
CURVE = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Distribution:
    """How often each value occurs: (value, count), values of 0 or more in ascending order.

    The figures are of one that is not empty.
    """

    counted: Sequence[tuple[int, int]]

    @property
    def number(self) -> int:
        """How many there are: users, items or lists."""
        return sum(count for _, count in self.counted)

    @property
    def total(self) -> int:
        """The sum over them."""
        return sum(value * count for value, count in self.counted)

    def quantile(self, share: float) -> int:
        """The least value that at least this share of them do not exceed.

        >>> [Distribution([(1, 2), (5, 1), (9, 1)]).quantile(q) for q in (0.25, 0.5, 0.75, 1)]
        [1, 1, 5, 9]
        """
        wanted = Fraction(str(share)) * self.number
        for value, count in self.counted:
            wanted -= count
            if wanted <= 0:
                return value
        return self.counted[-1][0]

    def spread(self) -> dict[str, Any]:
        """Extremes, quartiles (`quantile`), mean, and a histogram in powers of two."""
        return {
            "minimum": self.counted[0][0],
            "lower_quartile": self.quantile(0.25),
            "median": self.quantile(0.5),
            "upper_quartile": self.quantile(0.75),
            "maximum": self.counted[-1][0],
            "mean": rounded(self.total / self.number),
            "histogram": self.histogram(),
        }

    def histogram(self) -> list[dict[str, int]]:
        """Counts of 0, 1, 2 to 3, 4 to 7 and so on, from the lowest that occurs to the highest.

        >>> Distribution([(1, 3), (5, 1), (6, 1)]).histogram()  # doctest: +NORMALIZE_WHITESPACE
        [{'from': 1, 'to': 1, 'count': 3}, {'from': 2, 'to': 3, 'count': 0},
         {'from': 4, 'to': 7, 'count': 2}]
        """
        groups = groupby(self.counted, key=lambda pair: pair[0].bit_length())
        counts = {bits: sum(count for _, count in pairs) for bits, pairs in groups}
        return [
            {"from": 2**bits // 2, "to": 2**bits - 1, "count": counts.get(bits, 0)}
            for bits in range(min(counts), max(counts) + 1)
        ]

    def most(self, share: float) -> int:
        """How many a share of them is, rounded up."""
        return ceil(Fraction(str(share)) * self.number)

    def held_by_most(self, share: float) -> float | None:
        """Share of the total that the largest have, `most(share)` of them; None where it is 0.

        Of ten items with 11, 1, 1, ... interactions (20 in all), the most popular 10% have 11 / 20.

        >>> Distribution([(1, 9), (11, 1)]).held_by_most(0.1)
        0.55
        """
        left = self.most(share)
        held = 0
        for value, count in reversed(self.counted):
            held += value * min(count, left)
            left -= min(count, left)
        return rounded(held / self.total) if self.total else None

    def gini(self) -> float | None:
        """The Gini coefficient: 0 where all are equal, near 1 where one has all; None of total 0.

        With n values in ascending order x_1 ... x_n it is
        2 * sum(i * x_i) / (n * sum(x_i)) - (n + 1) / n. Of the values 1 and 3:
        2 * (1 * 1 + 2 * 3) / (2 * 4) - 3 / 2.

        >>> Distribution([(1, 1), (3, 1)]).gini()
        0.25
        """
        number, total = self.number, self.total
        if not total:
            return None
        before = weighted = 0
        for value, count in self.counted:
            weighted += value * (count * before + count * (count + 1) // 2)
            before += count
        return rounded(2 * weighted / (number * total) - (number + 1) / number)


def merged(distributions: Iterable[Distribution]) -> Distribution:
    """All of them as one."""
    counts: dict[int, int] = {}
    for distribution in distributions:
        for value, count in distribution.counted:
            counts[value] = counts.get(value, 0) + count
    return Distribution(sorted(counts.items()))


def rounded(value: float) -> float:
    """To six digits, and never -0.0."""
    return round(float(value), DIGITS) + 0.0
