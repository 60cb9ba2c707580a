"""A link of the chain: what is known about it, with its interval and its null value.

The chain goes from texts to the final ranking; each link can hold only what the one before it
carries, but for the last ones where re-rankers read something else than reward models. A link holds
where its whole interval lies above its null value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rec.errors import RecError
from rec.files import read_json
from rec.mediation.resampling import Estimate

IDENTIFIABILITY = "identifiability"
ENCODER = "encoder"
SENSITIVITY = "sensitivity"
RELIABILITY = "reliability"
BEST_OF_N = "best_of_n"
FRESH_REWARD = "fresh_reward"
RETOLD = "retold"
VALIDATION = "validation"
TEST = "test"
#: The links in their order: key and name. The last two come from the final comparison, the one
#: before them from its re-rankers.
STEPS = {
    IDENTIFIABILITY: "Texts tell users apart",
    ENCODER: "Vectors keep what tells users apart",
    SENSITIVITY: "The reward is sensitive to the text",
    RELIABILITY: "The reward of a user's responses is reliable",
    BEST_OF_N: "The best of N is better",
    FRESH_REWARD: "Fresh responses gain reward after alignment",
    RETOLD: "The same re-rankers rank better with fresh responses",
    VALIDATION: "Better ranking on validation users",
    TEST: "Better ranking on test users",
}

POINTS = "NDCG@5 points"  # NDCG@5 x 100
CORRELATION = "correlation"
SHARE = "share of variance"
RANK = "MRR"
COSINE = "cosine"
NATS = "nats"
UNITS = (POINTS, CORRELATION, SHARE, RANK, COSINE, NATS)


@dataclass(frozen=True)
class Link:
    """One figure: `chain` marks the one that decides about its step, others say more about it."""

    step: str  # of STEPS
    name: str  # unique within a round
    label: str
    users_of: str  # whose figure it is: "train", "valid", "test" or "all"
    chain: bool
    value: float | None  # None with its interval where these users cannot tell it
    low: float | None
    high: float | None
    null: float  # what it would be if the link carried nothing
    unit: str  # of UNITS
    users: int

    @property
    def holds(self) -> bool | None:
        """Whether the whole interval lies above the null value; None where there is none."""
        return None if self.low is None else self.low > self.null


def link(
    step: str,
    name: str,
    label: str,
    users_of: str,
    found: Estimate,
    *,
    unit: str,
    null: float = 0.0,
    chain: bool = False,
) -> Link:
    """A link from an estimate; differences of NDCG@5 become points, numbers get six digits."""
    scale = 100.0 if unit == POINTS else 1.0
    value, low, high = (
        None if number is None else round(number * scale, 6) + 0.0
        for number in (found.value, found.low, found.high)
    )
    null = round(null, 6)
    return Link(step, name, label, users_of, chain, value, low, high, null, unit, found.users)


def as_json(links: Sequence[Link]) -> dict[str, Any]:
    """The content of a file of links."""
    return {"links": [asdict(one) for one in links]}


def read_links(path: Path) -> list[Link]:
    """The links in a file. Raises RecError, naming it, where they are missing or broken."""
    found = read_json(path)
    try:
        return [_link(values) for values in found["links"]]
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise RecError(f"{path}: not links of the chain ({reason})") from error


def _link(values: Mapping[str, Any]) -> Link:
    made = Link(**{field.name: values[field.name] for field in fields(Link)})
    numbers = (made.value, made.low, made.high)
    if not isinstance(made.null, int | float):
        raise TypeError(f"null of link {made.name!r} is {made.null!r}; it must be a number")
    if made.step not in STEPS or made.unit not in UNITS:
        raise ValueError(f"link {made.name!r} has step {made.step!r} and unit {made.unit!r}")
    present = [number is not None for number in numbers]
    if any(present) != all(present):
        raise ValueError(f"link {made.name!r} has a value without its interval")
    if not all(math.isfinite(n) for n in (*numbers, made.null) if n is not None):
        raise ValueError(f"link {made.name!r} has a number that is not finite")
    return made
