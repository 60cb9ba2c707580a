"""rec.align.heldout: preference accuracy by hand."""

from __future__ import annotations

import pytest

from rec.align.heldout import preference_accuracy, wilson


def test_by_hand() -> None:
    before = [([-1.0, -1.0], [-3.0]), ([-2.0], [-1.0])]
    after = [([-1.0, -0.5], [-3.5]), ([-1.5], [-0.75])]
    found = preference_accuracy(before, after)
    assert found["pairs"] == 2
    assert found["likelihood_accuracy_before"]["value"] == 0.5
    assert found["likelihood_accuracy_after"]["value"] == 0.5
    assert found["reward_accuracy"]["value"] == 1.0
    assert found["mean_margin"] == pytest.approx((1.0 + 0.25) / 2)
    assert found["chosen_log_ratio"] == pytest.approx(0.5)
    assert found["rejected_log_ratio"] == pytest.approx((-0.5 + 0.25) / 2)


def test_policy_that_did_not_change_is_at_chance() -> None:
    scores = [([-1.0, -1.0], [-3.0]), ([-2.0], [-1.0])]
    assert preference_accuracy(scores, scores)["reward_accuracy"]["value"] == 0.5


def test_no_pairs() -> None:
    assert preference_accuracy([], []) == {"pairs": 0}


@pytest.mark.parametrize("hits", [0, 3, 10])
def test_interval_holds_the_share(hits: int) -> None:
    low, high = wilson(hits, 10)
    assert 0 <= round(low, 9) <= hits / 10 <= round(high, 9) <= 1
