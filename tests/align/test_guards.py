"""rec.align.guards: a run that is of no use ends in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rec.align.guards import verdict
from rec.config import Guards
from rec.curves import ALIGNMENT
from rec.errors import RecError
from tests.align.settings import SETTINGS

LIMITS = Guards(chosen_drop=1.0, kl=0.5, margin=0.0)


def rows(**last: float) -> list[dict[str, float]]:
    """Eight steps, of which the last two end with other values."""
    usual = dict.fromkeys(ALIGNMENT, 0.1)
    return [{**usual, "step": n, **(last if n > 6 else {})} for n in range(1, 9)]


def judged(
    last: dict[str, float], guards: Guards = LIMITS, loss: str = "sigmoid"
) -> dict[str, Any]:
    return verdict(rows(**last), replace(SETTINGS, guards=guards, loss=loss))


def test_summary_is_of_the_last_quarter() -> None:
    summary = judged({"entropy": 3.0})
    assert summary["steps"] == 8
    assert summary["entropy"] == 3.0
    assert summary["likelihood_displacement"] is False


def test_displacement_is_told_but_no_error() -> None:
    summary = judged({"chosen_log_ratio": -0.2, "rejected_log_ratio": -0.6})
    assert summary["likelihood_displacement"] is True


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ({"chosen_log_ratio": -1.2}, r"1.20 nats per token less likely .*chosen_drop is 1.0"),
        ({"kl": float("inf")}, r"kl ended at inf; lower align.learning_rate"),
        ({"kl": 0.6}, r"0.60 nats per token from its reference .*kl is 0.5"),
        ({"margin": 0.0}, r"the margin grew by 0.0000 nats, not above align.guards.margin"),
        ({"margin": -0.1}, r"the margin grew by -1.0000 nats"),
    ],
)
def test_beyond_a_guard(last: dict[str, float], message: str) -> None:
    with pytest.raises(RecError, match=message) as caught:
        judged(last)
    assert "\n" not in str(caught.value)
    if max(last.values()) < float("inf"):
        assert judged(last, Guards())["steps"] == 8


def test_fine_tuning_needs_no_margin() -> None:
    assert judged({"margin": -1.0}, loss="sft")["margin"] == -1.0


def test_margin_is_counted_from_the_start() -> None:
    """A round that refers to the base begins with the margin of the rounds before."""
    settings = replace(SETTINGS, guards=LIMITS)
    assert verdict(rows(margin=0.5), settings, start=4.9)["margin"] == 0.5
    with pytest.raises(RecError, match=r"the margin grew by -0.1000 nats"):
        verdict(rows(margin=0.5), settings, start=5.1)


def test_too_few_steps_say_nothing_about_the_margin() -> None:
    assert verdict(rows(margin=0.0)[-3:], replace(SETTINGS, guards=LIMITS))["steps"] == 3
