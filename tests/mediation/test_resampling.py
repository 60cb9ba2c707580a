from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.mediation.resampling import Floats, estimate, mean_of, ratio_of


def quotient(sums: Floats) -> Floats:
    found: Floats = sums[0] / sums[1]
    return found


def test_two_users_by_hand() -> None:
    # a resample holds 0 and 0, 0 and 1 (twice), or 1 and 1
    found = estimate(mean_of(np.array([0.0, 1.0])), 2, 400, seed=1)
    assert (found.value, found.low, found.high, found.users) == (0.5, 0.0, 1.0, 2)


def test_a_ratio_of_sums_over_all_resamples_of_three_users() -> None:
    sums = np.array([[1.0, 1.0], [3.0, 2.0], [0.0, 4.0]])
    every = [sums[list(drawn)].sum(0) for drawn in product(range(3), repeat=3)]
    often = np.repeat([a / b for a, b in every], 100)
    expected = np.quantile(often, [0.025, 0.975])
    found = estimate(ratio_of(sums, quotient), 3, 4000, seed=2)
    assert found.value == pytest.approx(4 / 7)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.02)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), shift=st.floats(-3, 3))
def test_a_shift_moves_value_and_interval(seed: int, shift: float) -> None:
    values = np.random.default_rng(seed).normal(size=12)
    plain, moved = (estimate(mean_of(v), 12, 150, seed) for v in (values, values + shift))
    for name in ("value", "low", "high"):
        assert getattr(moved, name) == pytest.approx(getattr(plain, name) + shift, abs=1e-9)
    assert plain.low is not None and plain.value is not None and plain.high is not None
    assert plain.low <= plain.value <= plain.high


def test_intervals_cover_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(300):
        found = estimate(mean_of(rng.normal(size=100)), 100, 300, trial)
        assert found.low is not None and found.high is not None
        held += found.low <= 0 <= found.high
    assert 270 <= held <= 294


@pytest.mark.parametrize("users", [0, 1])
def test_too_few_users_tell_nothing(users: int) -> None:
    found = estimate(mean_of(np.ones(users)), users, 100, seed=1)
    assert (found.value, found.low, found.high, found.users) == (None, None, None, users)


def test_a_figure_that_does_not_exist() -> None:
    sums = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert estimate(ratio_of(sums, lambda s: s[0] / s[1] - s[0] / s[1]), 2, 50, 1).value is None


def test_resamples_without_the_figure_are_left_out() -> None:
    # half of the resamples of two users draw one of them alone
    sums = np.array([[2.0, 0.0], [0.0, 4.0]])

    def needs_both(totals: Floats) -> Floats:
        return np.where((totals > 0).all(0), totals[0] / totals[1], np.nan)

    found = estimate(ratio_of(sums, needs_both), 2, 100, seed=3)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
