from __future__ import annotations

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec.comparison.slices import POPULARITIES, history_thirds, item_classes, list_classes
from rec.tables import LISTS
from tests.comparison.made import items_table, lists_table


def histories(**positions: list[int]) -> pl.DataFrame:
    rows = [
        [f"{user}-{n}", user, "test", position, ["a"], [1]]
        for user, found in positions.items()
        for n, position in enumerate(found)
    ]
    return pl.DataFrame(rows, schema=dict(LISTS), orient="row")


def test_thirds_by_the_mean_length_before_the_lists() -> None:
    lists = histories(a=[10, 14], b=[30], c=[20, 24], d=[11], e=[50, 90], f=[21])
    assert history_thirds(lists) == {"short": {"a", "d"}, "middle": {"c", "f"}, "long": {"b", "e"}}


def test_users_of_one_length_stand_together() -> None:
    assert history_thirds(histories(a=[10], b=[20], c=[20], d=[20], e=[50])) == {
        "short": {"a", "b", "c", "d"},
        "long": {"e"},
    }
    assert history_thirds(histories(a=[10], b=[10])) == {"short": {"a", "b"}}
    assert history_thirds(histories()) == {}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_thirds_hold_every_user_once_in_order(lengths: list[int]) -> None:
    thirds = history_thirds(histories(**{f"u{n}": [v] for n, v in enumerate(lengths)}))
    found = [[lengths[int(user[1:])] for user in users] for users in thirds.values()]
    assert sorted(v for part in found for v in part) == sorted(lengths)
    for shorter, longer in pairwise(found):
        assert max(shorter) < min(longer)


def classes(popularity: list[int]) -> list[str]:
    return item_classes(items_table(popularity))["class"].to_list()


def test_items_by_where_their_interactions_begin() -> None:
    assert classes([6, 3, 2, 1]) == ["head", "torso", "tail", "tail"]
    assert classes([1, 1, 1]) == ["head", "torso", "tail"]
    assert classes([5]) == ["head"]
    assert classes([3, 0, 0]) == ["head", "tail", "tail"]
    assert classes([0, 0]) == ["head", "head"]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_each_class_but_the_last_has_a_third_or_reaches_over_it(popularity: list[int]) -> None:
    counts = sorted(popularity, reverse=True)
    found = classes(counts)
    assert found == sorted(found, key=POPULARITIES.index)
    total = sum(counts)
    for number, name in enumerate(POPULARITIES[:2], start=1):
        upto = [c for c, k in zip(counts, found, strict=True) if POPULARITIES.index(k) < number]
        assert total == 0 or 3 * sum(upto) >= number * total, name


@pytest.mark.parametrize(
    ("positives", "expected"),
    [("a", "head"), ("abd", "torso"), ("ab", "head"), ("bc", "torso"), ("acd", "tail"), ("", None)],
)
def test_a_list_is_where_its_middle_positive_is(positives: str, expected: str | None) -> None:
    labels = [int(item in positives) for item in "dcba"]
    row = [["l", "u", "test", 3, list("dcba"), labels]]
    lists = pl.DataFrame(row, schema=dict(LISTS), orient="row")
    found = list_classes(lists, items_table([6, 3, 2, 1]))
    assert found.rows() == ([] if expected is None else [("l", expected)])


def test_every_list_has_one_class() -> None:
    lists = lists_table()
    found = list_classes(lists, items_table())
    assert found["list"].to_list() == sorted(lists["list"])
    assert set(found["class"]) == {"head", "torso", "tail"}
