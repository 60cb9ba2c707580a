"""rec.shown against a plain definition: the lists made of a log, and that none knows the future."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.config import Impressions, Prepare, Tabular
from rec.impressions import (
    ROW,
    kept_rows,
)
from rec.interactions import order_interactions
from rec.shown import (
    AGAIN,
    CUT,
    NO_INTERACTIONS,
    NO_NEGATIVE,
    NO_POSITIVE,
    REASONS,
    TOO_MANY,
    WITHIN_PROFILE,
    lists_table,
    shown_lists,
)
from rec.tables import LISTS, check_schema
from tests.leaks import check_leaks
from tests.prepared import DATA, PREPARE

SHOP = replace(DATA, tabular=Tabular(impressions=Impressions(file="log")))
PAIRS: dict[str, Any] = {
    "user": pl.UInt32,
    "item": pl.UInt32,
    "rating": pl.Float32,
    "timestamp": pl.Int64,
}
#: user, list, item, place, label, timestamp, file, row
Cell = tuple[int, str, int, int | None, int, int, str, int]


def prepared(size: int = 10, most: int | None = None, profile: int = 30) -> Prepare:
    return replace(PREPARE, list_size=size, lists_per_user=most, profile_interactions=profile)


def interactions_of(times: dict[int, list[int]], profile: int = 30) -> pl.DataFrame:
    """Each user's interactions with items 0, 1, ... at these times."""
    rows = [(user, n, 5.0, time) for user, own in times.items() for n, time in enumerate(own)]
    most = max(map(len, times.values()), default=0)
    keys = (np.arange(count, dtype=np.uint64) for count in (max(times, default=0) + 1, most))
    return order_interactions(pl.DataFrame(rows, schema=PAIRS, orient="row"), profile, *keys)


def cells_of(name: str, labels: str, time: int, user: int = 0) -> list[Cell]:
    """A list of items 0, 1, ... with these labels, such as "010"."""
    return [
        (user, name, item, item + 1, int(label), time, "log", item)
        for item, label in enumerate(labels)
    ]


def frame(cells: Sequence[Cell]) -> pl.DataFrame:
    return pl.DataFrame(list(cells), schema=ROW, orient="row")


def made(
    cells: Sequence[Cell], times: dict[int, list[int]], prepare: Prepare
) -> tuple[list[tuple[Any, ...]], Counter[str], Counter[str]]:
    """Lists as rows, and what was dropped, without zeros."""
    found = shown_lists(frame(cells), interactions_of(times, prepare.profile_interactions), prepare)
    assert set(found.dropped) == set(REASONS)
    return found.lists.rows(), +found.dropped, +found.items


def test_a_list_by_hand() -> None:
    """Four interactions, two of them the profile part: the list at 35 has a history of three."""
    cells: list[Cell] = [
        (0, "s", 7, 2, 0, 36, "log", 1),
        (0, "s", 8, 1, 1, 35, "log", 2),
        (0, "s", 9, None, 0, 37, "log", 3),
        (0, "s", 6, 2, 0, 35, "log", 4),
    ]
    lists, dropped, items = made(cells, {0: [10, 20, 30, 35]}, prepared())
    assert lists == [("s", 0, 3, [8, 7, 6, 9], [1, 0, 0, 0])]
    assert not dropped and not items


@pytest.mark.parametrize(
    ("labels", "time", "reason"),
    [
        ("10", 20, WITHIN_PROFILE),
        ("10", 19, WITHIN_PROFILE),
        ("10", 21, None),
        ("00", 50, NO_POSITIVE),
        ("0", 50, NO_POSITIVE),
        ("11", 50, NO_NEGATIVE),
        ("1", 50, NO_NEGATIVE),
        ("0001", 50, NO_POSITIVE),
        ("1110", 50, NO_NEGATIVE),
    ],
)
def test_each_reason_to_drop_a_list(labels: str, time: int, reason: str | None) -> None:
    lists, dropped, items = made(
        cells_of("s", labels, time), {0: [10, 20, 30, 40]}, prepared(size=3)
    )
    assert dropped == ({reason: 1} if reason else {})
    assert len(lists) == (0 if reason else 1)
    assert items == ({CUT: 1} if len(labels) > 3 else {})


def test_user_without_interactions() -> None:
    cells = cells_of("s", "10", 99, user=1) + cells_of("t", "10", 99, user=3)
    lists, dropped, _ = made(cells, {0: [1, 2], 2: [1, 2]}, prepared())
    assert lists == [] and dropped == {NO_INTERACTIONS: 2}


def test_first_lists_of_a_user_are_kept() -> None:
    cells = [
        cell
        for name, labels, time in (
            ("d", "10", 60),
            ("c", "10", 60),
            ("b", "11", 50),
            ("a", "10", 70),
        )
        for cell in cells_of(name, labels, time)
    ]
    lists, dropped, _ = made(cells, {0: [10, 20, 65]}, prepared(most=2))
    assert [row[:3] for row in lists] == [("c", 0, 2), ("d", 0, 2)]
    assert dropped == {NO_NEGATIVE: 1, TOO_MANY: 1}


def test_an_item_shown_again_counts_once() -> None:
    cells: list[Cell] = [
        (0, "s", 5, 1, 0, 50, "log", 1),
        (0, "s", 6, 2, 0, 50, "log", 2),
        (0, "s", 5, 3, 1, 50, "log", 3),
        (0, "s", 6, 4, 0, 50, "log", 4),
    ]
    lists, _, items = made(cells, {0: [10, 20]}, prepared())
    assert lists == [("s", 0, 2, [5, 6], [1, 0])]
    assert items == {AGAIN: 2}


def test_nothing_shown() -> None:
    for times in ({}, {0: [1, 2]}):
        found = shown_lists(frame([]), interactions_of(times), prepared())
        assert dict(found.lists.schema) == {
            "list": pl.String,
            "user": pl.UInt32,
            "position": pl.Int32,
            "items": pl.List(pl.UInt32),
            "labels": pl.List(pl.Int8),
        }
        assert found.lists.is_empty()


def defined(
    cells: Sequence[Cell], times: dict[int, list[int]], prepare: Prepare
) -> tuple[list[tuple[Any, ...]], Counter[str], Counter[str]]:
    """What the docstring of `shown_lists` says, list by list."""
    groups: dict[tuple[int, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell[0], cell[1]), []).append(cell)
    dropped: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    found: list[tuple[int, int, str, tuple[Any, ...]]] = []
    for (user, name), own in groups.items():
        past = sorted(times.get(user, []))
        profile = past[: min(prepare.profile_interactions, (len(past) + 1) // 2)]
        time = min(cell[5] for cell in own)
        if not past:
            dropped[NO_INTERACTIONS] += 1
            continue
        if time <= profile[-1]:
            dropped[WITHIN_PROFILE] += 1
            continue
        own.sort(key=lambda cell: (cell[3] is None, cell[3] or 0, cell[6], cell[7]))
        labels: dict[int, int] = {}
        for _, _, item, _, label, *_ in own:
            labels[item] = max(label, labels.get(item, 0))
        left_out[AGAIN] += len(own) - len(labels)
        left_out[CUT] += max(0, len(labels) - prepare.list_size)
        items = list(labels)[: prepare.list_size]
        shown = [labels[item] for item in items]
        if 1 not in shown or 0 not in shown:
            dropped[NO_POSITIVE if 1 not in shown else NO_NEGATIVE] += 1
            continue
        position = sum(second < time for second in past)
        found.append((user, time, name, (name, user, position, items, shown)))
    kept: list[tuple[Any, ...]] = []
    number: Counter[int] = Counter()
    for user, _, _, row in sorted(found, key=lambda entry: entry[:3]):
        number[user] += 1
        if prepare.lists_per_user is None or number[user] <= prepare.lists_per_user:
            kept.append(row)
        else:
            dropped[TOO_MANY] += 1
    return kept, dropped, +left_out


@st.composite
def logs(draw: st.DrawFn) -> list[Cell]:
    """Rows of lists, each of one user, with ties in place and time and items shown twice."""
    owners = draw(st.lists(st.integers(0, 3), max_size=6))
    cells: list[Cell] = []
    for name, owner in enumerate(owners):
        rows = draw(
            st.lists(
                st.tuples(
                    st.integers(0, 5),
                    st.sampled_from([None, 1, 2, 3]),
                    st.integers(0, 1),
                    st.integers(1, 12),
                ),
                min_size=1,
                max_size=7,
            )
        )
        start = draw(st.integers(0, 9))
        cells += [
            (owner, f"s{name % 4}{name}", item, place, label, start + time, "f", len(cells) + n)
            for n, (item, place, label, time) in enumerate(rows)
        ]
    return cells


TIMES = st.dictionaries(
    st.integers(0, 3), st.lists(st.integers(1, 12), min_size=1, max_size=6), max_size=4
)
KNOBS = st.builds(
    prepared, st.integers(2, 6), st.sampled_from([None, 1, 2]), st.sampled_from([1, 2, 30])
)


@settings(max_examples=200)
@given(logs(), TIMES, KNOBS, st.randoms(use_true_random=False))
def test_lists_are_those_of_the_definition(
    cells: list[Cell], times: dict[int, list[int]], prepare: Prepare, chance: Any
) -> None:
    expected = defined(cells, times, prepare)
    assert made(cells, times, prepare) == expected
    mixed = list(cells)
    chance.shuffle(mixed)
    assert made(mixed, times, prepare) == expected


def test_rows_of_kept_users_and_items_become_a_table() -> None:
    cells = cells_of("s", "0101", 50) + cells_of("t", "10", 60, user=1) + cells_of("r", "1", 50, 2)
    kept = np.array([True, False, True]), np.array([True, True, False, True, False])
    rows = kept_rows(frame(cells), *kept)
    assert dict(rows.schema) == ROW
    lists = shown_lists(rows, interactions_of({0: [10, 20], 2: [10]}), prepared()).lists
    users, splits = pl.Series(["u", "v", "w"]), pl.Series(["test", "train", "valid"])
    table = lists_table(lists, users, splits, pl.Series(["a", "b", "d"]))
    assert check_schema(table, LISTS, "lists").rows() == [
        ("s", "u", "test", 2, ["a", "b", "d"], [0, 1, 1])
    ]
    empty = lists_table(lists.clear(), users, splits, pl.Series(["a", "b", "d"]))
    assert check_schema(empty, LISTS, "lists").is_empty()
    nothing = kept_rows(frame([]), *kept)
    assert dict(nothing.schema) == ROW and nothing.is_empty()


# What the check for leaks sees


def tables_of(cells: Sequence[Cell], times: dict[int, list[int]], prepare: Prepare) -> Any:
    """Prepared tables of shown lists, users by their number, every user a train user."""
    pairs = interactions_of(times, prepare.profile_interactions)
    lists = shown_lists(frame(cells), pairs, prepare).lists
    count = lists.group_by("user").len().sort("user")
    pairs = pairs.join(count, on="user", how="semi", maintain_order="left")
    profile = pairs.group_by("user").agg(pl.col("profile").sum().cast(pl.Int32)).sort("user")
    part = pl.when("profile").then(pl.lit("profile")).otherwise(pl.lit("list"))
    named = pl.col("user").cast(pl.String)
    return SimpleNamespace(
        items=pl.DataFrame({"item": [str(item) for item in range(10)]}),
        further={},
        interactions=pairs.with_columns(named, pl.col("item").cast(pl.String), part=part),
        users=count.select(
            named,
            split=pl.lit("train"),
            profile_interactions=profile["profile"],
            lists=pl.col("len").cast(pl.Int32),
        ),
        lists=lists.with_columns(
            named, pl.col("items").cast(pl.List(pl.String)), split=pl.lit("train")
        ),
    )


def published_of(cells: Sequence[Cell]) -> pl.DataFrame:
    return frame(cells).select("list", pl.col("item").cast(pl.String), "label", "timestamp")


LOG = cells_of("s", "0100", 35) + cells_of("t", "10", 25, user=1)
HISTORY = {0: [10, 20, 30, 35, 40], 1: [10, 30]}


@settings(max_examples=60)
@given(logs(), TIMES, KNOBS)
def test_no_list_knows_what_lies_ahead(
    cells: list[Cell], times: dict[int, list[int]], prepare: Prepare
) -> None:
    check_leaks(tables_of(cells, times, prepare), prepare, SHOP, published=published_of(cells))


def at(column: str, values: list[Any], dtype: Any) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda lists: lists.with_columns(pl.Series(column, values, dtype=dtype))


BROKEN: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "later history": (at("position", [4, 1], pl.Int32), "history that is not before"),
    "less history": (at("position", [2, 1], pl.Int32), "within the profile|not before the list"),
    "profile": (at("position", [3, 0], pl.Int32), "within the profile"),
    "label": (
        at("labels", [[0, 0, 1, 0], [1, 0]], pl.List(pl.Int8)),
        "wrong label",
    ),
    "other item": (
        at("items", [["0", "1", "2", "9"], ["0", "1"]], pl.List(pl.String)),
        "item that was not shown",
    ),
    "split": (at("split", ["train", "test"], pl.String), "in another split"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_check_finds_what_is_wrong(name: str) -> None:
    change, message = BROKEN[name]
    tables = tables_of(LOG, HISTORY, prepared())
    check_leaks(tables, prepared(), SHOP, published=published_of(LOG))
    tables.lists = change(tables.lists)
    with pytest.raises(AssertionError, match=message):
        check_leaks(tables, prepared(), SHOP, published=published_of(LOG))
