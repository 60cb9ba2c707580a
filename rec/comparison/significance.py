"""Tests of paired differences over users, their correction, and effect sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEVEL = 0.05
CHUNK = 256  # permutations held in memory at once
TOLERANCE = 1e-12  # below which sums of floats count as equal


def sign_flip(differences: Array, permutations: int, seed: int) -> Array:
    """Two-sided p-values of the means of paired differences [users, columns].

    If two variants were alike, a user's difference would be as likely with the other sign. The
    signs of all users are flipped at random so many times; p is the share of outcomes, the real one
    counted among them (Phipson and Smyth 2010), whose mean is as far from 0 as the real one:
    (1 + count) / (1 + permutations). All columns meet the same signs.

    By hand: of one user's two outcomes, d and -d, both are as far from 0, so that p is 1. Of 10
    users who all differ by the same, 2 of 1,024 sign patterns are: p is about 0.002.
    """
    generator = np.random.default_rng(seed)
    users = len(differences)
    reached = np.abs(differences.sum(axis=0)) - TOLERANCE * users
    count = np.zeros(differences.shape[1])
    for start in range(0, permutations, CHUNK):
        size = (min(CHUNK, permutations - start), users)
        signs = 2.0 * generator.integers(0, 2, size, dtype=np.int8) - 1.0
        count += (np.abs(signs @ differences) >= reached).sum(axis=0)
    values: Array = (1 + count) / (1 + permutations)
    return values


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """P-values of a family of comparisons, corrected by Holm (1979), in the order given.

    The smallest is multiplied by the number of comparisons, the next by one less, and so on; none
    becomes smaller than one before it, none larger than 1. Rejecting at 0.05 then errs in any
    comparison of the family with probability 0.05 at most, however they depend on each other.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    corrected: dict[str, float] = {}
    least = 0.0
    for place, name in enumerate(sorted(values, key=lambda name: (values[name], name))):
        least = max(least, min(1.0, (len(values) - place) * values[name]))
        corrected[name] = least
    return {name: corrected[name] for name in values}


@dataclass(frozen=True)
class Effect:
    """How large paired differences over users are."""

    size: float | None  # Cohen's d_z: mean by standard deviation; None where all are the same
    deviation: float  # standard deviation of the differences over users
    better: float  # share of users with a difference above 0
    worse: float


def effect(differences: Array) -> Effect:
    """The effect of paired differences [users].

    By hand: of the differences 0.1, 0.3, -0.1 and 0.1 the mean is 0.1 and the standard deviation
    0.1633, so that d_z is 0.612; 3 of 4 users are better off, 1 worse.
    """
    deviation = float(differences.std(ddof=1))
    size = float(differences.mean()) / deviation if deviation > TOLERANCE else None
    better = float((differences > TOLERANCE).mean())
    return Effect(size, deviation, better, float((differences < -TOLERANCE).mean()))
