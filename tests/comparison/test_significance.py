from __future__ import annotations

import doctest
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import ttest_1samp

from rec.comparison import components as components_module
from rec.comparison import significance
from rec.comparison.components import Components, components, two_way_p
from rec.comparison.significance import effect, holm, sign_flip

P_VALUES = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.floats(0, 1), min_size=1)


def one(differences: Any, permutations: int = 4999, seed: int = 1) -> float:
    return float(sign_flip(np.asarray(differences, float)[:, None], permutations, seed)[0])


class TestSignFlip:
    def test_no_difference_and_a_single_user_are_no_evidence(self) -> None:
        assert one([0.0] * 20) == 1.0
        assert one([0.3]) == 1.0

    def test_ten_users_who_differ_alike(self) -> None:
        """2 of 1,024 patterns of signs are as far from 0, though their sums are rounded."""
        assert one([0.1] * 10, 40_000) == pytest.approx(2 / 1024, abs=0.0007)

    def test_equals_the_enumeration_of_all_signs(self) -> None:
        differences = np.array([0.3, 0.1, -0.05, 0.2, 0.15, -0.1, 0.25, 0.02])
        signs = np.array(list(product([-1, 1], repeat=8)))
        exact = (np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12).mean()
        assert one(differences, 40_000) == pytest.approx(exact, abs=0.01)

    def test_never_zero(self) -> None:
        assert one([0.1] * 200, 99) == 0.01
        assert one([0.1] * 200, 999) == 0.001

    def test_both_directions_count(self) -> None:
        differences = np.random.default_rng(2).normal(0.1, 0.3, 40)
        assert one(differences) == one(-differences)

    def test_uniform_where_nothing_differs(self) -> None:
        """Of 400 samples around 0, p is below 5% about as often, and has the mean 1/2."""
        samples = np.random.default_rng(5).standard_t(3, (40, 400))
        p = sign_flip(samples, 499, 3)
        assert 0.02 <= (p <= 0.05).mean() <= 0.09
        assert p.mean() == pytest.approx(0.5, abs=0.06)

    def test_finds_what_a_t_test_finds(self) -> None:
        """A mean of 2.5 standard errors: two-sided p of the normal distribution 0.0124."""
        differences = np.random.default_rng(6).normal(0, 1, 500)
        differences += 2.5 * differences.std() / np.sqrt(500) - differences.mean()
        assert one(differences, 20_000) == pytest.approx(0.0124, abs=0.004)

    @settings(max_examples=30)
    @given(hnp.arrays(np.float64, (7, 3), elements=st.floats(-1, 1, width=32)))
    def test_columns_are_as_if_alone(self, differences: Any) -> None:
        together = sign_flip(differences, 300, 4)
        assert together == pytest.approx([one(column, 300, 4) for column in differences.T])
        assert ((together > 0) & (together <= 1)).all()


class TestHolm:
    def test_by_hand(self) -> None:
        """0.005 x 4; 0.01 x 3; 0.03 x 2; 0.04 x 1 is less than the one before it."""
        found = holm({"d": 0.04, "a": 0.005, "c": 0.03, "b": 0.01})
        assert list(found) == ["d", "a", "c", "b"]
        assert found == pytest.approx({"a": 0.02, "b": 0.03, "c": 0.06, "d": 0.06})

    def test_one_comparison_needs_no_correction(self) -> None:
        assert holm({"a": 0.3}) == {"a": 0.3}

    @given(P_VALUES)
    def test_keeps_the_order_and_only_raises(self, values: dict[str, float]) -> None:
        found = holm(values)
        ranked = sorted(values, key=lambda name: values[name])
        assert [found[name] for name in ranked] == sorted(found.values())
        assert all(values[name] <= found[name] <= 1 for name in values)
        smallest = min(values.values())
        assert min(found.values()) == pytest.approx(min(1, len(values) * smallest))

    @given(P_VALUES)
    def test_rejects_no_less_than_bonferroni_and_no_more_than_no_correction(
        self, values: dict[str, float]
    ) -> None:
        found = holm(values)
        for name, value in values.items():
            assert found[name] <= min(1, len(values) * value) + 1e-12


class TestEffect:
    def test_by_hand(self) -> None:
        found = effect(np.array([0.1, 0.3, -0.1, 0.1]))
        assert found.size == pytest.approx(0.1 / np.sqrt(0.08 / 3))
        assert found.deviation == pytest.approx(0.16330, abs=1e-5)
        assert (found.better, found.worse) == (0.75, 0.25)

    def test_differences_all_alike_have_no_size(self) -> None:
        found = effect(np.array([0.1, 0.1, 0.1]))
        assert found.size is None and found.better == 1
        assert effect(np.zeros(4)).better == effect(np.zeros(4)).worse == 0


def crossed(
    rng: np.random.Generator, seeds: int, users: int, spread: Components, mean: float = 0.0
) -> np.ndarray:
    """Differences [seeds, users] with these variances."""
    of_user = rng.normal(0, np.sqrt(spread.users), users)
    of_seed = rng.normal(0, np.sqrt(spread.seeds), (seeds, 1))
    return mean + of_user + of_seed + rng.normal(0, np.sqrt(spread.rest), (seeds, users))


class TestTwoWay:
    def test_one_seed_is_the_t_test_over_users(self) -> None:
        values = np.random.default_rng(1).normal(0.1, 0.3, (1, 20))
        assert two_way_p(values) == pytest.approx(float(ttest_1samp(values[0], 0).pvalue))

    def test_seeds_alike_change_nothing(self) -> None:
        values = np.random.default_rng(2).normal(0.1, 0.3, 20)
        assert two_way_p(np.stack([values] * 4)) == pytest.approx(
            float(ttest_1samp(values, 0).pvalue)
        )

    @pytest.mark.parametrize("seeds", [3, 5])
    def test_an_effect_of_the_seeds_alone_is_found_as_often_as_chance_allows(
        self, seeds: int
    ) -> None:
        """With seeds that differ and many users, a test over users alone would find it often."""
        rng, spread = np.random.default_rng(3), Components(3e-4, 4e-5, 2e-3)
        found = [two_way_p(crossed(rng, seeds, 230, spread)) < 0.05 for _ in range(1500)]
        assert np.mean(found) < 0.075

    def test_a_real_difference_is_found(self) -> None:
        rng, spread = np.random.default_rng(4), Components(3e-4, 1e-6, 2e-3)
        found = [two_way_p(crossed(rng, 5, 230, spread, 0.01)) < 0.05 for _ in range(200)]
        assert np.mean(found) > 0.9

    def test_no_spread(self) -> None:
        assert two_way_p(np.zeros((3, 5))) == 1.0
        assert two_way_p(np.full((3, 5), 0.1)) == 0.0

    def test_components_are_those_that_made_the_values(self) -> None:
        rng, spread = np.random.default_rng(5), Components(4.0, 1.0, 0.25)
        found = [components(crossed(rng, 6, 300, spread)) for _ in range(200)]
        assert np.mean([c.users for c in found]) == pytest.approx(4.0, rel=0.05)
        assert np.mean([c.seeds for c in found]) == pytest.approx(1.0, rel=0.15)
        assert np.mean([c.rest for c in found]) == pytest.approx(0.25, rel=0.05)


def test_examples_of_the_docstrings() -> None:
    for module in (components_module, significance):
        found = doctest.testmod(module)
        assert found.failed == 0 and found.attempted
