"""rec.negatives: draws by weight, of unseen items, each list by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.hashing import Keys, keys
from rec.negatives import Catalogue, Seen, build_tree, draw_negatives, walk

WEIGHTS = [8.0, 4.0, 2.0, 1.0, 1.0, 16.0]
LIKELIEST = Seen(np.array([5]), 6)  # user 0 has seen item 5


def catalogue(weights: Any) -> Catalogue:
    values = np.asarray(weights, dtype=np.float64)
    hashes = keys(pl.Series([f"item {number}" for number in range(len(values))]))
    return Catalogue(hashes, values, build_tree(hashes, values))


def states(count: int) -> Keys:
    return keys(pl.Series([f"state {number}" for number in range(count)]))


def draws(count: int, needed: int, weights: Any = WEIGHTS, seen: Seen = LIKELIEST) -> Any:
    users = np.zeros(count, dtype=np.int64)
    return draw_negatives(states(count), users, needed, catalogue(weights), seen)


def test_walks_follow_the_weights() -> None:
    """Many items, so that leaves are shared by some and empty for others."""
    weights = np.random.default_rng(1).integers(1, 60, 300).astype(np.float64)
    found = np.bincount(walk(catalogue(weights).tree, states(200_000)), minlength=300)
    expected = weights / weights.sum() * 200_000
    assert ((found - expected) ** 2 / expected).sum() < 378  # 299 degrees, p = 0.001


def test_items_of_one_hash_share_a_leaf_by_weight() -> None:
    hashes = np.array([7, 7, 7, 2**63], dtype=np.uint64)
    weights = np.array([1.0, 2.0, 5.0, 8.0])
    found = np.bincount(walk(build_tree(hashes, weights), states(40_000)), minlength=4)
    assert found / 40_000 == pytest.approx(weights / 16, abs=0.01)


@pytest.mark.parametrize("numbers", [(8, 32, 128), (2, 3), ()])
def test_first_items_follow_the_weights(
    monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...]
) -> None:
    """By draws and by the race alike."""
    monkeypatch.setattr("rec.negatives.DRAWS", numbers)
    found = np.bincount(draws(8000, 1).ravel(), minlength=6)
    expected = np.array([8, 4, 2, 1, 1]) / 16 * 8000
    assert found[5] == 0
    assert ((found[:5] - expected) ** 2 / expected).sum() < 18.5  # 4 degrees, p = 0.001


@pytest.mark.parametrize("numbers", [(8, 32, 128), ()])
def test_second_items_follow_the_weights_of_the_rest(
    monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...]
) -> None:
    monkeypatch.setattr("rec.negatives.DRAWS", numbers)
    pairs = draws(20_000, 2)
    found = np.zeros((6, 6))
    np.add.at(found, (pairs[:, 0], pairs[:, 1]), 1)
    weights = np.array([8, 4, 2, 1, 1])
    share = weights / 16
    expected = share[:, None] * weights[None, :] / (16 - weights[:, None]) * 20_000
    assert np.trace(found) == found[:, 5].sum() == found[5].sum() == 0
    apart = ~np.eye(5, dtype=bool)
    surplus = (found[:5, :5] - expected)[apart]
    assert (surplus**2 / expected[apart]).sum() < 43.8  # 19 degrees, p = 0.001


@settings(max_examples=60)
@given(st.integers(2, 40), st.integers(1, 5), st.data())
def test_never_seen_and_never_twice(items: int, users: int, data: st.DataObject) -> None:
    needed = data.draw(st.integers(1, items))
    seen = [
        data.draw(st.sets(st.integers(0, items - 1), max_size=items - needed)) for _ in range(users)
    ]
    weights = data.draw(st.lists(st.floats(1e-3, 1e6), min_size=items, max_size=items))
    pairs = np.array(
        [user * items + item for user in range(users) for item in sorted(seen[user])],
        dtype=np.int64,
    )
    owners = np.repeat(np.arange(users), 3)
    found = draw_negatives(
        states(3 * users), owners, needed, catalogue(weights), Seen(pairs, items)
    )
    assert found.shape == (3 * users, needed)
    for user, row in zip(owners, found.tolist(), strict=True):
        assert len(set(row)) == needed
        assert set(row) <= set(range(items)) - seen[user]


def test_exactly_as_many_unseen_items_as_needed() -> None:
    """However unlikely they are."""
    weights = np.ones(500)
    weights[:490] = 1e9
    found = draws(20, 10, weights, Seen(np.arange(490), 500))
    assert (np.sort(found, axis=1) == np.arange(490, 500)).all()


@pytest.mark.parametrize("numbers", [(8, 32, 128), (2, 3), ()])
def test_a_list_depends_on_no_other_list_nor_on_how_many_at_once(
    monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...]
) -> None:
    monkeypatch.setattr("rec.negatives.DRAWS", numbers)
    everything = draws(300, 3)
    monkeypatch.setattr("rec.negatives.CELLS", 50)
    assert (draws(300, 3) == everything).all()
    some = np.array([250, 3, 77])
    users = np.zeros(3, dtype=np.int64)
    alone = draw_negatives(states(300)[some], users, 3, catalogue(WEIGHTS), LIKELIEST)
    assert (alone == everything[some]).all()


@pytest.mark.parametrize("numbers", [(64, 128), (30, 31, 32), (128,)])
def test_number_of_draws_changes_nothing_where_draws_are_enough(
    monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...]
) -> None:
    weights, seen = np.arange(1.0, 201.0), Seen(np.arange(20), 200)
    expected = draws(200, 6, weights, seen)
    monkeypatch.setattr("rec.negatives.DRAWS", numbers)
    assert (draws(200, 6, weights, seen) == expected).all()


def test_few_weights_change_few_draws() -> None:
    weights = np.random.default_rng(2).integers(1, 50, 1000).astype(np.float64)
    before = walk(catalogue(weights).tree, states(50_000))
    weights[:20] += 1
    changed = before != walk(catalogue(weights).tree, states(50_000))
    assert 0 < changed.mean() < 0.01


def test_no_lists_and_nothing_seen() -> None:
    none = Seen(np.empty(0, dtype=np.int64), 6)
    assert draws(0, 3).shape == (0, 3)
    assert (np.sort(draws(50, 6, seen=none), axis=1) == np.arange(6)).all()


@pytest.mark.parametrize("table", [0, 1 << 10])
def test_seen_holds(monkeypatch: pytest.MonkeyPatch, table: int) -> None:
    monkeypatch.setattr("rec.negatives.TABLE", table)
    seen = Seen(np.array([1, 5, 6]), 3)  # user 0: 1; user 1: 2; user 2: 0
    found = seen.holds(np.arange(4)[:, None], np.arange(3)[None, :])
    assert found.tolist() == [
        [False, True, False],
        [False, False, True],
        [True, False, False],
        [False, False, False],  # of this user nothing is known
    ]
