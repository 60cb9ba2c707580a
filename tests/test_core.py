"""rec.core: the k-core is the largest set in which all have enough of each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.core import Integers, Pairs, degrees, k_core

Pair = tuple[int, int]
USERS, ITEMS = 8, 7
PAIRS = st.sets(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), max_size=45)


def parts(pairs: set[Pair], size: int = 10) -> Pairs:
    rows = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)

    def through() -> Iterator[tuple[Integers, Integers]]:
        for start in range(0, len(rows), size):
            yield rows[start : start + size, 0], rows[start : start + size, 1]

    return through


def core_of(pairs: set[Pair], user: int, item: int, size: int = 10) -> tuple[set[int], set[int]]:
    users, items = k_core(parts(pairs, size), USERS, ITEMS, user, item)
    return set(np.flatnonzero(users).tolist()), set(np.flatnonzero(items).tolist())


def plain_core(pairs: set[Pair], user: int, item: int) -> tuple[set[int], set[int]]:
    """Drop one at a time, users before items, until all have enough."""
    users, items = set(range(USERS)), set(range(ITEMS))
    while True:
        left = [(u, i) for u, i in pairs if u in users and i in items]
        short_users = {u for u in users if sum(u == owner for owner, _ in left) < user}
        short_items = {i for i in items if sum(i == other for _, other in left) < item}
        if short_users:
            users.remove(min(short_users))
        elif short_items:
            items.remove(max(short_items))
        else:
            return users, items


@settings(max_examples=150)
@given(PAIRS, st.integers(0, 4), st.integers(0, 4), st.integers(1, 20))
def test_core_is_the_plain_one(pairs: set[Pair], user: int, item: int, size: int) -> None:
    assert core_of(pairs, user, item, size) == plain_core(pairs, user, item)


@settings(max_examples=60)
@given(PAIRS, st.integers(1, 4), st.integers(1, 4), st.data())
def test_core_is_a_fixed_point_and_the_largest(
    pairs: set[Pair], user: int, item: int, data: st.DataObject
) -> None:
    users, items = core_of(pairs, user, item)
    kept = {(u, i) for u, i in pairs if u in users and i in items}
    assert core_of(kept, user, item) == (users, items)
    by_user, by_item = degrees(
        parts(pairs),
        np.isin(np.arange(USERS), list(users)),
        np.isin(np.arange(ITEMS), list(items)),
    )
    assert all(by_user[u] >= user for u in users)
    assert all(by_item[i] >= item for i in items)
    assert by_user.sum() == by_item.sum() == len(kept)
    other_users = data.draw(st.sets(st.integers(0, USERS - 1)))
    other_items = data.draw(st.sets(st.integers(0, ITEMS - 1)))
    some = {(u, i) for u, i in pairs if u in other_users and i in other_items}
    enough = all(sum(u == owner for owner, _ in some) >= user for u in other_users) and all(
        sum(i == other for _, other in some) >= item for i in other_items
    )
    if enough:  # any other set that is closed lies within the core
        assert other_users <= users and other_items <= items


def test_dropping_goes_on_in_turns() -> None:
    pairs = {(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (2, 2)}
    assert core_of(pairs, 2, 2) == ({0, 1}, {0, 1})


@pytest.mark.parametrize("pairs", [set(), {(0, 0)}])
def test_nothing_may_be_left(pairs: set[Pair]) -> None:
    assert core_of(pairs, 2, 2) == (set(), set())
