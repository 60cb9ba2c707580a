from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rec.comparison.intervals import ends, resampled_means

VALUES = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6),
    elements=st.floats(0, 1, width=32),
)


def interval(values: Any, resamples: int = 1000, seed: int = 1) -> tuple[float, float]:
    """Of one column [seeds, users]."""
    low, high = ends(resampled_means(np.asarray(values)[:, :, None], resamples, seed))
    return float(low[0]), float(high[0])


def test_two_users_worth_0_and_1_span_0_to_1() -> None:
    assert interval([[0.0, 1.0]]) == (0.0, 1.0)


def test_two_seeds_worth_0_and_1_span_0_to_1() -> None:
    """Users are alike; what varies is what the seeds make of them."""
    assert interval([[0.0] * 50, [1.0] * 50]) == (0.0, 1.0)


def test_without_seeds_it_matches_the_normal_approximation() -> None:
    values = np.random.default_rng(3).normal(0.5, 0.1, (1, 400))
    low, high = interval(values, 4000)
    error = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - error, abs=error / 10)
    assert high == pytest.approx(values.mean() + error, abs=error / 10)


def test_seeds_and_users_add_their_variances() -> None:
    """Values are the user's part and the seed's part, summed."""
    generator = np.random.default_rng(3)
    users, seeds = generator.normal(0, 0.3, 300), generator.normal(0, 0.02, 12)
    low, high = interval(users + seeds[:, None], 4000)
    error = 1.96 * np.sqrt(users.var() / 300 + seeds.var() / 12)
    assert (high - low) / 2 == pytest.approx(error, rel=0.05)


def test_95_percent_of_intervals_cover_the_truth() -> None:
    """Of 300 draws of users and seeds around 0, as many seeds as users that vary alike."""
    generator = np.random.default_rng(8)
    covered = 0
    for trial in range(300):
        users, seeds = generator.normal(0, 1, 60), generator.normal(0, 0.3, 10)
        own = generator.normal(0, 0.5, (10, 60))
        low, high = interval(users + seeds[:, None] + own, 400, trial)
        covered += low <= 0 <= high
    assert 0.9 <= covered / 300 <= 0.99


def test_interval_is_of_all_resamples_asked_for() -> None:
    """Of one resample both ends are its mean; those after the first chunk count as well."""
    values = np.random.default_rng(3).normal(0.5, 0.1, (3, 50, 1))
    assert [len(resampled_means(values, count, 1)) for count in (1, 256, 700)] == [1, 256, 700]
    assert interval(values[..., 0], 1)[0] == interval(values[..., 0], 1)[1]
    assert interval(values[..., 0], 700) != interval(values[..., 0], 256)


def test_other_seed_draws_other_resamples() -> None:
    values = np.random.default_rng(3).normal(0.5, 0.1, (3, 50, 1))
    first = resampled_means(values, 100, 1)
    assert (resampled_means(values, 100, 1) == first).all()
    assert (resampled_means(values, 100, 2) != first).any()


@given(VALUES)
def test_means_lie_within_the_values(values: Any) -> None:
    means = resampled_means(values, 100, 1)
    assert (means >= values.min(axis=(0, 1)) - 1e-9).all()
    assert (means <= values.max(axis=(0, 1)) + 1e-9).all()


@settings(max_examples=30)
@given(VALUES)
def test_every_column_meets_the_same_resamples(values: Any) -> None:
    """So that a constant difference has an interval of no width, whatever the columns do."""
    alone = [resampled_means(values[:, :, [c]], 150, 5) for c in range(values.shape[2])]
    assert resampled_means(values, 150, 5) == pytest.approx(np.hstack(alone))
    shifted = np.concatenate([values, values + 0.25], axis=2)
    means = resampled_means(shifted, 150, 5)
    columns = values.shape[2]
    assert means[:, columns:] - means[:, :columns] == pytest.approx(0.25)
