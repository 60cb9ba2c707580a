from __future__ import annotations

import doctest
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from rec.comparison import power as power_module
from rec.comparison.components import (
    Components,
    _mean_squares,
    two_way_p,
    variance_and_freedom,
)
from rec.comparison.intervals import ends, resampled_means
from rec.comparison.power import Design, detectable, power, users_needed
from rec.comparison.significance import sign_flip

#: Between users most, by the seed as well, and neither: only what users and seeds have together.
USERS, SEEDS, REST = Components(0.02, 0.0, 0.01), Components(3e-3, 4e-4, 5e-4), Components(0, 0, 1)


def found(design: Design, users: int, difference: float, experiments: int = 400) -> float:
    """The share of made-up experiments in which a true difference is called significant."""
    rng, spread = np.random.default_rng(7), design.spread
    values = difference + sum(
        np.sqrt(variance) * rng.normal(size=(*shape, experiments))
        for variance, shape in (
            (spread.users, (1, users)),
            (spread.seeds, (design.seeds, 1)),
            (spread.rest, (design.seeds, users)),
        )
    )
    over_users = sign_flip(values.mean(axis=0), 3999, 1)
    over_both = [two_way_p(values[:, :, n]) for n in range(experiments)]
    low, high = ends(resampled_means(values, 500, 1))
    significant = np.maximum(over_users, over_both) <= design.level
    return float((significant & ((low > 0) | (high < 0))).mean())


@pytest.mark.parametrize("level", [0.05, 0.005])
@pytest.mark.parametrize(
    ("spread", "seeds", "users"),
    [(USERS, 1, 40), (USERS, 2, 27), (SEEDS, 3, 27), (REST, 5, 40), (SEEDS, 10, 27)],
)
def test_what_is_detectable_is_found_80_times_in_100(
    spread: Components, seeds: int, users: int, level: float
) -> None:
    """By the tests and the interval themselves; 400 experiments tell it to 2 points."""
    design = Design(spread, seeds, level)
    difference = detectable(design, users)
    assert difference is not None
    assert found(design, users, difference) == pytest.approx(0.8, abs=0.06)


def test_the_interval_has_a_part_in_it() -> None:
    """It counts what users and seeds have together thrice: the t-test would find more."""
    design = Design(REST, 10, 0.05)
    difference = detectable(design, 27)
    assert difference is not None
    assert found(design, 27, difference) == pytest.approx(0.8, abs=0.06)
    t = stats.nct.sf(stats.t.ppf(0.975, 26), 26, difference * np.sqrt(270))
    assert t > 0.88


def test_resampled_means_vary_by_the_mean_squares() -> None:
    """The formula of `Design._limits` is that of the bootstrap."""
    values = np.random.default_rng(1).normal(size=(3, 8, 1)) + np.arange(8)[:, None] / 4
    by_user, by_seed, rest = _mean_squares(values[:, :, 0])
    known = (7 / 8 * by_user + 2 / 3 * by_seed + 14 / 24 * rest) / 24
    assert resampled_means(values, 40_000, 1).var() == pytest.approx(known, rel=0.03)


def test_users_needed_find_the_difference() -> None:
    design = Design(Components(1e-3, 1e-5, 1e-3), 5, 0.005)
    needed = users_needed(design, 0.01)
    assert needed is not None and 300 < needed < 370
    assert found(design, needed, 0.01) == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("level", [0.05, 0.005])
@pytest.mark.parametrize("users", [10, 30, 300])
def test_with_one_seed_it_is_the_power_of_the_t_test(users: int, level: float) -> None:
    chance = Design(Components(4.0, 0.0, 0.0), 1, level).chance(users)
    for difference in (0.2, 0.5, 1.0):
        away = difference * np.sqrt(users) / 2
        known = stats.nct.sf(stats.t.ppf(1 - level / 2, users - 1), users - 1, away)
        assert chance(difference) == pytest.approx(float(known), abs=0.003)


@pytest.mark.parametrize("users", [15, 100, 3000])
@pytest.mark.parametrize("seeds", [1, 3, 10])
def test_needed_and_detectable_are_inverse(seeds: int, users: int) -> None:
    design = Design(Components(0.02, 0.0, 0.01 if seeds > 1 else 0.0), seeds, 0.005)
    difference = detectable(design, users)
    assert difference is not None
    assert users_needed(design, difference + 1e-8) == pytest.approx(users, abs=1 + users * 1e-3)


def test_more_comparisons_ask_for_more() -> None:
    levels = [0.05 / number for number in (1, 5, 10)]
    told = [power("a", "b", 27, Design(USERS, 5, level), 2.0) for level in levels]
    for one, next_one in pairwise(told):
        assert one.detectable is not None and next_one.detectable is not None
        assert one.users_needed is not None and next_one.users_needed is not None
        assert one.detectable < next_one.detectable and one.users_needed < next_one.users_needed


FIRST = 0.05 / 13  # the level that Holm's correction asks of the first of thirteen comparisons


@pytest.mark.parametrize(
    ("seeds", "level", "low", "high"),
    [
        (2, 0.05, 1.9, 2.5),
        (2, FIRST, 9.0, 14.0),
        (3, 0.05, 1.3, 1.6),
        (3, FIRST, 3.8, 5.2),
        (5, 0.05, 1.0, 1.25),
        (5, FIRST, 1.7, 2.3),
        (10, 0.05, 0.95, 1.1),
        (10, FIRST, 1.0, 1.4),
    ],
)
def test_how_often_the_t_test_rejects_what_is_true(
    seeds: int, level: float, low: float, high: float
) -> None:
    """As a multiple of its level, as docs/architecture.md says, where seeds differ much.

    The mean squares are drawn as `rec.comparison.power` says that they are distributed.
    """
    users, spread, experiments = 230, Components(1.0, 0.05, 1.0), 200_000
    expected = np.array(
        [
            seeds * spread.users + spread.rest,
            users * spread.seeds + spread.rest,
            spread.rest,
        ]
    )
    freedom = np.array([users - 1, seeds - 1, (users - 1) * (seeds - 1)])
    rng = np.random.default_rng(3)
    squares = expected * rng.chisquare(freedom, (experiments, 3)) / freedom
    error = np.sqrt((expected[0] + expected[1] - expected[2]) / (seeds * users))
    variance, free = variance_and_freedom(squares.T, seeds, users)
    p = 2 * stats.t.sf(np.abs(error * rng.normal(size=experiments)) / np.sqrt(variance), free)
    assert low < np.mean(p <= level) / level < high


def test_users_do_not_make_up_for_seeds_that_are_few_and_differ() -> None:
    spread = Components(0.01, 0.01, 0.01)
    assert users_needed(Design(spread, 3, 0.05), 0.03) is None
    assert users_needed(Design(spread, 1000, 0.05), 0.03) is not None


def test_more_users_may_find_less() -> None:
    """At 3 seeds the first number that suffices is told, though ten thousand would not do."""
    design = Design(Components(1e-3, 1e-5, 1e-3), 3, 0.005)
    assert design.chance(250)(0.02) > 0.8 > 0.6 > design.chance(10_000)(0.02)
    needed = users_needed(design, 0.02)
    assert needed is not None and design.chance(needed - 1)(0.02) < 0.8 <= design.chance(needed)(
        0.02
    )


def test_fewer_users_than_the_signs_need_find_nothing() -> None:
    """Of 8 users who differ alike 2 of 256 patterns of signs are as far from 0: p is 0.008."""
    design = Design(Components(0.0, 0.0, 0.0), 3, 0.005)
    p = [float(sign_flip(np.full((users, 1), 0.1), 40_000, 1)[0]) for users in (8, 9)]
    assert p[1] < design.level < p[0]
    assert design.least_users == 9
    assert detectable(design, 8) is None and detectable(design, 9) == pytest.approx(0, abs=1e-8)
    assert users_needed(design, 0.1) == 9


def test_more_than_a_metric_can_differ_by_is_not_detectable() -> None:
    spread = Components(0.0, 6.8e-5, 3.9e-3)
    assert detectable(Design(spread, 2, 0.005), 27) is None
    assert detectable(Design(spread, 3, 0.005), 27) == pytest.approx(0.1335, abs=0.003)


def test_sought_is_half_a_percent_of_the_base() -> None:
    design = Design(Components(0.01, 0.0, 0.0), 3, 0.05)
    told = power("round_1", "base", 100, design, 0.6)
    assert (told.of, told.to, told.users, told.seeds) == ("round_1", "base", 100, 3)
    assert told.sought == 0.003
    assert told.users_needed == users_needed(design, 0.003) == pytest.approx(8721, rel=0.002)
    assert told.detectable == pytest.approx(0.0283, abs=1e-4)


def test_examples_of_the_docstrings() -> None:
    tried = doctest.testmod(power_module)
    assert tried.failed == 0 and tried.attempted
