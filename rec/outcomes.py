"""What the training of a policy came to, read from its summary.json: the end of its curve, and its
accuracy on held-out pairs.

The stages align and align-sft write the file (`rec.align.guards`, `rec.align.heldout`); nothing
here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rec.errors import RecError
from rec.files import read_json

CHANCE = 0.5
DIGITS = 9  # an end of an interval may miss 0 or 1 by the rounding of its formula


@dataclass(frozen=True)
class Share:
    """A share of pairs and its 95% interval, in 0 to 1."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Where the interval lies: about chance, or to one side of it."""
        if self.low > CHANCE:
            return "above chance"
        return "below chance" if self.high < CHANCE else "not distinguishable from chance"


@dataclass(frozen=True)
class HeldOut:
    """Accuracy on pairs of validation users."""

    pairs: int
    before: Share  # pairs whose chosen text is the likelier one per token, before training
    after: Share
    reward: Share  # pairs whose chosen text gained more log-probability


@dataclass(frozen=True)
class Outcome:
    """Where a policy's curve ended (means over the last quarter of its steps), and held-out pairs.

    Log-ratios are to the reference. Fine-tuning on chosen texts alone (policy sft) moves accuracy
    and margin only by the way, and its loss is in nats per token of the chosen texts.
    """

    steps: int
    loss: float
    accuracy: float  # share of pairs whose chosen side has the higher reward
    margin: float  # log-ratio of the chosen text minus that of the rejected one, nats
    chosen_log_ratio: float  # nats per token
    rejected_log_ratio: float
    kl: float  # nats per token
    displaced: bool  # both sides became less likely than under the reference
    held_out: HeldOut | None  # None: there were no held-out pairs


def read_outcome(path: Path, beta: float) -> Outcome:
    """The outcome in a policy's summary.json, whose rewards are `beta` times nats.

    Raises RecError, naming the file, where it is missing or not such a summary.
    """
    summary = read_json(path)
    try:
        return _outcome(summary, beta)
    except (KeyError, TypeError, ValueError) as error:
        raise RecError(f"{path}: not the summary of an alignment ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _outcome(summary: Any, beta: float) -> Outcome:
    values = _mapping(summary, "it")
    displaced = values["likelihood_displacement"]
    if not isinstance(displaced, bool):
        raise TypeError(f"likelihood_displacement is {displaced!r}; it must be true or false")
    return Outcome(
        steps=_count(values, "steps"),
        loss=_number(values, "loss"),
        accuracy=_number(values, "accuracy"),
        margin=_number(values, "margin") / beta,
        chosen_log_ratio=_number(values, "chosen_log_ratio"),
        rejected_log_ratio=_number(values, "rejected_log_ratio"),
        kl=_number(values, "kl"),
        displaced=displaced,
        held_out=_held_out(_mapping(values["heldout"], "heldout")),
    )


def _held_out(values: Mapping[str, Any]) -> HeldOut | None:
    pairs = _count(values, "pairs")
    if pairs == 0:
        return None
    return HeldOut(
        pairs=pairs,
        before=_share(values, "likelihood_accuracy_before"),
        after=_share(values, "likelihood_accuracy_after"),
        reward=_share(values, "reward_accuracy"),
    )


def _share(values: Mapping[str, Any], name: str) -> Share:
    found = _mapping(values[name], name)
    value, low, high = (round(_number(found, key), DIGITS) for key in ("value", "low", "high"))
    if not 0 <= low <= value <= high <= 1:
        raise ValueError(
            f"{name} is {value} in [{low}, {high}]; it must be a share in its interval"
        )
    return Share(value, low, high)


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} is no mapping of names to values")
    return value


def _count(values: Mapping[str, Any], name: str) -> int:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"{name} is {value!r}; it must be a whole number of 0 or more")
    return value


def _number(values: Mapping[str, Any], name: str) -> float:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{name} is {value!r}; it must be a finite number")
    return float(value)
