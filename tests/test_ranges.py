"""rec.ranges: one row for each pair, and tables that do not depend on how users are grouped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.cleaning import Rejects, clean_items, judge_ratings
from rec.database import connect
from rec.ranges import Ranges, build_ranges
from tests.prepared import (
    DATA,
    FILMS,
    PREPARE,
    Row,
    fill,
    items_of,
    prepare_rows,
    ratings_of,
    regular,
)

ROWS = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.sampled_from(["x", "y", "z", "unknown"]),
        st.sampled_from([1, 2, 5, 9]),  # 9 is out of range
        st.integers(0, 3),  # 0 is impossible
    ),
    max_size=40,
)


def ranged(
    rows: list[Row], size: int, order: int | None = None
) -> tuple[list[tuple[object, ...]], Rejects, Ranges]:
    """The pairs with their user's id, over all ranges of `size` rows."""
    rejects, frame = Rejects(), ratings_of(rows)
    if order is not None:
        frame = frame.sample(fraction=1.0, shuffle=True, seed=order)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr("rec.ranges.ROWS", size)
        with connect(Path(folder), "1GB", 2) as connection:
            fill(connection, frame, items_of("x", "y", "z"))
            judge_ratings(connection, DATA, clean_items(connection, Rejects()))
            ranges, _ = build_ranges(connection, DATA, Path(folder) / "ranges", rejects)
        found = []
        for number in range(len(ranges)):
            pairs = ranges.pairs(number)
            ids = ranges.ids(number)
            found += sorted((ids[user], *rest) for user, *rest in pairs.rows())
    return found, rejects, ranges


def plain(rows: list[Row]) -> list[tuple[object, ...]]:
    """Of each pair the latest usable row, of one time the highest rating; else that it was met."""
    items = sorted({row[1] for row in rows} & {"x", "y", "z"}, key=str)
    best: dict[tuple[object, int], tuple[bool, object, object]] = {}
    for user, item, rating, time in rows:
        if item in items:
            usable = rating != 9 and time != 0
            key = (user, items.index(item))
            best[key] = max(best.get(key, (False, -1, -1)), (usable, time, rating))
    return [(user, item, *best[user, item]) for user, item in sorted(best, key=str)]


@settings(max_examples=12)
@given(ROWS, st.sampled_from([1, 3, 7, 1000]), st.integers(0, 99))
def test_pairs_are_the_plain_ones(rows: list[Row], size: int, order: int) -> None:
    found, rejects, ranges = ranged(rows, size)
    usable = [(u, i, True, t, r) for u, i, r, t, usable in found if usable]
    assert usable == [row for row in plain(rows) if row[2]]
    assert [row[:2] for row in found] == [row[:2] for row in plain(rows)]
    again, others, _ = ranged(rows, size, order)
    assert again == found
    assert others.counts == rejects.counts and others.table().equals(rejects.table())
    assert ranges.starts == sorted(set(ranges.starts))
    assert ranges.starts[-1] == len(ranges.users) == len({row[0] for row in rows})


def test_duplicates_and_repeated_pairs() -> None:
    rows: list[Row] = [
        ("a", "x", 4, 5),
        ("a", "x", 2, 9),
        ("a", "x", 2, 9),
        ("a", "x", 3, 9),
        ("a", "x", 9, 99),
        ("a", "y", 3, 1),
    ]
    found, rejects, _ = ranged(rows, 10)
    assert found == [("a", 0, 3.0, 9, True), ("a", 1, 3.0, 1, True)]
    assert rejects.of("ratings") == {
        "repeated user and item": 2,
        "exact duplicate": 1,
        "rating out of range": 1,
    }
    shown = rejects.table().filter(pl.col("reason") != "rating out of range")
    assert shown.select("reason", "row", "value").rows() == [
        ("exact duplicate", 2, "rating 2.0 at 9"),
        ("repeated user and item", 1, "rating 4.0 at 5"),
        ("repeated user and item", 3, "rating 2.0 at 9"),
    ]


def test_pair_with_faulty_rows_alone_is_known_but_not_usable() -> None:
    found, rejects, _ = ranged([("a", "x", 9, 5), ("a", "x", 9, 5), ("a", "x", 4, 0)], 10)
    assert found == [("a", 0, 9.0, 5, False)]
    assert rejects.of("ratings") == {"rating out of range": 2, "timestamp impossible": 1}


def test_range_holds_the_users_of_about_so_many_rows() -> None:
    rows: list[Row] = [(f"u{u}", f"{i}", 4, 1) for u in range(6) for i in range(4)]
    assert ranged(rows, 8)[2].starts == [0, 2, 4, 6]
    assert ranged(rows, 3)[2].starts == [0, 1, 2, 3, 4, 5, 6]
    assert ranged(rows, 24)[2].starts == [0, 6]


@pytest.mark.parametrize("size", [5, 30, 77, 200])
def test_size_of_ranges_changes_no_table(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """With ranges of users that have unknown items, bad ratings, or no positive alone."""
    rows = regular()
    rows += [("u111", "unknown", 4, n) for n in range(8)]
    rows += [("u222", f"i0{n}", 9, 4) for n in range(8)]
    rows += [("u333", f"i0{n}", 1, 4) for n in range(8)]
    rows += [("u0", "i00", 3, 99), ("u1", "i07", 5.0, 1)]
    both = replace(PREPARE, negatives=["popularity", "uniform"])
    whole = prepare_rows(rows, FILMS, both)
    monkeypatch.setattr("rec.ranges.ROWS", size)
    assert prepare_rows(rows, FILMS, both).without_files() == whole.without_files()
