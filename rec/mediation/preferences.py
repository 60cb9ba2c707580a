"""Is the better of two responses better again, and could that be told for other users?

A pair is the best and the worst response of a user. DPO needs both: preferences that are more than
noise, and something that they have in common, for it has seen no pair of the users it writes for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rec.mediation.halves import user_groups
from rec.mediation.links import ACCURACY, BEST_OF_N, Link, link
from rec.mediation.resampling import Floats, estimate, mean_of

Integers = npt.NDArray[np.int64]

PARTS = 5  # of the users, of which a probe sees all but one


def repeated(scores: Floats, groups: list[slice]) -> Floats:
    """Per user whether the better of the pair by one half is the better by the other, [U].

    `scores` [T, 2] of both halves. 1 for yes, 0 for no, 0.5 where they are equal; the mean over
    both directions, and over those that tie as best or as worst.

    >>> scores = np.array([[1.0, 0.9], [0.0, 0.1]])
    >>> repeated(scores, [slice(0, 2)])
    array([1.])
    """
    rows = []
    for group in groups:
        pick, value = scores[group], scores[group][:, ::-1]
        best, worst = pick >= pick.max(0) - 1e-12, pick <= pick.min(0) + 1e-12
        columns = zip(value.T, best.T, worst.T, strict=True)
        rows.append(np.mean([_won(other[b], other[w]) for other, b, w in columns]))
    return np.array(rows, dtype=np.float64)


def _won(chosen: Floats, rejected: Floats) -> float:
    difference = chosen[:, None] - rejected[None]
    return float(np.mean(np.where(np.abs(difference) <= 1e-12, 0.5, difference > 0)))


def probed(
    vectors: npt.NDArray[np.floating[Any]], scores: Floats, owners: Integers, seed: int
) -> Floats:
    """Per user whether a linear probe tells the best response from the worst, [U].

    `vectors` [T, dim] and `scores` [T] of responses, sorted by `owners` [T]. The probe is the ridge
    regression of 1 on the differences, best minus worst, of four fifths of the users, and is asked
    about the rest: 1 where it is right, 0.5 where it sees no difference. The ridge is the mean
    eigenvalue of the differences' scatter. Users whose scores are all equal have no pair.
    """
    differences = []
    for group in user_groups(owners):
        own = scores[group]
        if own.max() > own.min():
            best, worst = (group.start + int(place) for place in (own.argmax(), own.argmin()))
            differences.append(vectors[best].astype(np.float64) - vectors[worst])
    if len(differences) < PARTS:
        return np.zeros(0)
    rows = np.array(differences)
    part = np.random.default_rng(seed).permutation(len(rows)) % PARTS
    right = np.zeros(len(rows))
    for number in range(PARTS):
        seen, asked = rows[part != number], rows[part == number]
        scatter = seen.T @ seen
        ridge = max(np.trace(scatter) / len(scatter), 1e-12) * np.eye(len(scatter))
        told = asked @ np.linalg.solve(scatter + ridge, seen.sum(0))
        right[part == number] = np.where(np.abs(told) <= 1e-12, 0.5, told > 0)
    return right


def preference_links(again: Floats, right: Floats, resamples: int, seed: int) -> list[Link]:
    """The links of `repeated` and `probed`, of train users; the null value is chance."""
    figures = (
        ("pair_repeated_train", "The better of a pair by one half is so by the other", again),
        (
            "probe_train",
            "A linear probe tells the better of a pair of a user it has not seen",
            right,
        ),
    )
    return [
        link(
            BEST_OF_N,
            name,
            f"{label}, train users",
            "train",
            estimate(mean_of(values), len(values), resamples, seed),
            unit=ACCURACY,
            null=0.5,
        )
        for name, label, values in figures
    ]
