"""Links as a round leaves them, with numbers that are easy to follow."""

from __future__ import annotations

from rec.mediation.links import (
    BEST_OF_N,
    CORRELATION,
    FRESH_REWARD,
    IDENTIFIABILITY,
    POINTS,
    RANK,
    RELIABILITY,
    RETOLD,
    SENSITIVITY,
    VALIDATION,
    Link,
    link,
)
from rec.mediation.resampling import Estimate

Ends = tuple[float, float, float]  # value, low, high


def chain(
    reliability: Ends = (0.02, -0.01, 0.05), best: Ends = (0.002, 0.001, 0.003)
) -> list[Link]:
    """The deciding links of a round; where not told otherwise, reliability does not hold."""
    figures = (
        (IDENTIFIABILITY, (0.4, 0.3, 0.6), RANK, 0.1),
        (SENSITIVITY, (0.3, 0.25, 0.35), CORRELATION, 0.0),
        (RELIABILITY, reliability, CORRELATION, 0.0),
        (BEST_OF_N, best, POINTS, 0.0),
        (FRESH_REWARD, (0.001, 0.0005, 0.002), POINTS, 0.0),
    )
    return [
        link(
            step,
            step,
            f"Figure of {step}",
            "train",
            Estimate(*ends, 1500),
            unit=unit,
            null=null,
            chain=True,
        )
        for step, ends, unit, null in figures
    ]


def retold() -> list[Link]:
    """The links of the re-rankers of the policy before."""
    return [
        link(
            RETOLD,
            f"retold_{split}",
            f"Figure of {split} users",
            split,
            Estimate(0.004, 0.001, 0.007, 400),
            unit=POINTS,
            chain=split == "test",
        )
        for split in ("test", "valid")
    ]


def unknown() -> Link:
    """A deciding link that could not be measured."""
    nothing = Estimate(None, None, None, 1)
    return link(VALIDATION, "valid", "Difference", "valid", nothing, unit=POINTS, chain=True)
