"""rec.preparation: what may change nothing changes nothing, and the real MovieLens 1M."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from rec.config import Prepare
from rec.datasets import Source, read
from rec.errors import RecError
from rec.interactions import split_users
from tests.datasets.test_movielens import SHARED
from tests.leaks import check_leaks
from tests.prepared import (
    DATA,
    PREPARE,
    SEED,
    Row,
    items_of,
    prepare_filled,
    prepare_rows,
    ratings_of,
)

ITEMS = items_of(*(f"i{number:03}" for number in range(150)))
LONGER = replace(PREPARE, profile_interactions=8, list_size=10)
UNIFORM = replace(LONGER, negatives=["uniform"])
BOTH = replace(LONGER, negatives=["popularity", "uniform"])
NEW = tuple(f"new{number}" for number in range(12))


def users_of(names: list[str], seed: int = 3) -> list[Row]:
    """20 interactions of each user with items of a skewed popularity."""
    rows: list[Row] = []
    weights = 1 / np.arange(1, 151)
    for number, name in enumerate(names):
        random = np.random.default_rng([seed, number])
        items = random.choice(150, size=20, replace=False, p=weights / weights.sum())
        ratings = random.integers(1, 6, size=20)
        times = random.integers(1, 1000, size=20)
        rows += [
            (name, f"i{item:03}", int(rating), int(time))
            for item, rating, time in zip(items, ratings, times, strict=True)
        ]
    return rows


OLD = users_of([f"u{number:03}" for number in range(200)])
OTHERS = users_of(list(NEW), seed=4)


def lists_as_sets(rows: list[Row], prepare: Prepare) -> dict[str, frozenset[tuple[str, int]]]:
    result = prepare_rows(rows, ITEMS, prepare)
    return {
        row["list"]: frozenset(zip(row["items"], row["labels"], strict=True))
        for row in result.lists.iter_rows(named=True)
        if not row["user"].startswith("new")
    }


def test_no_leaks() -> None:
    for knob in (LONGER, UNIFORM, BOTH, replace(LONGER, users=100, minimum_item_interactions=12)):
        check_leaks(prepare_rows(OLD, ITEMS, knob), knob, DATA, ratings_of(OLD))


def test_leak_check_finds_leaks() -> None:
    result = prepare_rows(OLD, ITEMS, LONGER)
    worse = {
        "earlier": result.lists.with_columns(position=pl.col("position") - 1),
        "labels": result.lists.with_columns(labels=pl.col("labels").list.reverse()),
        "items": result.lists.with_columns(
            items=pl.col("items").shift(1).fill_null(pl.first("items"))
        ),
        "split": result.lists.with_columns(split=pl.lit("train")),
    }
    for lists in worse.values():
        with pytest.raises(AssertionError):
            check_leaks(result._replace(lists=lists), LONGER, DATA)
    raw = result.lists.explode("items", "labels").select("user", item="items")
    with pytest.raises(AssertionError, match="negative that was interacted with"):
        check_leaks(result, LONGER, DATA, raw)
    both = prepare_rows(OLD, ITEMS, BOTH)
    check_leaks(both, BOTH, DATA)
    fewer = {"fewer": both.further["uniform"].head(-1)}
    for lists in (worse | fewer).values():
        with pytest.raises(AssertionError):
            check_leaks(both._replace(further={"uniform": lists}), BOTH, DATA)


def test_more_users_leave_uniform_lists_as_they_were() -> None:
    before = lists_as_sets(OLD, UNIFORM)
    assert len(before) > 500
    for number in (1, len(NEW)):
        rows = OLD + OTHERS[: 20 * number]
        assert lists_as_sets(rows, UNIFORM) == before


def test_one_more_user_leaves_nearly_all_popular_lists_as_they_were() -> None:
    """One of the train users; others leave the popularity, and with it every list, alone."""
    before = lists_as_sets(OLD, LONGER)
    changed = {}
    for number, split in enumerate(split_users(pl.Series(NEW), PREPARE, SEED)):
        if split not in changed:
            after = lists_as_sets(OLD + OTHERS[20 * number : 20 * number + 20], LONGER)
            assert after.keys() == before.keys()
            changed[split] = sum(after[key] != before[key] for key in before) / len(before)
    assert changed["test"] == changed["valid"] == 0
    assert 0 < changed["train"] < 0.15


def test_fewer_users_are_among_the_more_with_the_same_negatives() -> None:
    few = lists_as_sets(OLD, replace(UNIFORM, users=150))
    everyone = lists_as_sets(OLD, UNIFORM)
    assert 0 < len(few) < len(everyone)
    assert few.items() <= everyone.items()


def test_order_of_rows_and_machine_change_no_byte() -> None:
    knob = replace(BOTH, users=150, minimum_item_interactions=3)
    rows = ratings_of([*OLD, *OLD[:30], ("u000", "i001", 9, 5), ("u001", "i002", 3, 2000)])
    first = prepare_rows(rows, ITEMS, knob)
    mixed = rows.sample(fraction=1.0, shuffle=True, seed=5)
    numbered = mixed.with_columns(row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))
    for other in (
        prepare_rows(mixed, ITEMS.reverse(), knob, threads=1),
        prepare_rows(rows, ITEMS, knob, memory_limit="100MB"),
    ):
        assert other.files == first.files
        assert other.summary == first.summary
        assert other.rejects.equals(first.rejects)
    renumbered = prepare_rows(numbered, ITEMS, knob)
    assert renumbered.files == first.files
    assert renumbered.summary == first.summary


def test_core_holds_over_all_users() -> None:
    knob = replace(PREPARE, minimum_interactions=17, minimum_item_interactions=10)
    result = prepare_rows(OLD, ITEMS, knob, replace(DATA, positive_rating=1))
    assert result.summary["dropped"]["users"] == {
        "too few interactions": 19,
        "not among prepare.users": 0,
        "without a list": 0,
    }
    for column, least in (("user", 17), ("item", 10)):
        counts = result.interactions.group_by(column).len()
        assert (counts["len"] >= least).all()
    assert set(result.items["item"]) == set(result.interactions["item"])


def test_empty_core_names_the_keys() -> None:
    with pytest.raises(RecError, match=r"none of 200 .*prepare\.minimum_item_interactions"):
        prepare_rows(OLD, ITEMS, replace(PREPARE, minimum_item_interactions=999))


def test_the_real_ml_1m() -> None:
    archive = SHARED / "ml-1m.zip"
    if not archive.is_file():
        pytest.skip(f"{archive} is absent (set REC_SHARED_DATA to the folder that holds ml-1m.zip)")
    knob = replace(BOTH, minimum_interactions=5, list_size=20, list_interactions=5)
    raw: list[pl.DataFrame] = []

    def fill(connection: duckdb.DuckDBPyConnection, work: Path) -> None:
        read(Source(archive, work, DATA, connection))
        raw.append(connection.sql("SELECT user, item FROM raw_ratings").pl())

    result = prepare_filled(fill, knob, memory_limit="2GB")
    summary = result.summary
    assert summary["ratings"] == 1_000_209
    assert summary["items"] == len(result.items) == 3_706
    assert summary["dropped"]["ratings"] == {}
    assert summary["dropped"]["items"] == {"never rated": 177}
    left = summary["dropped"]["users"]["without a list"]
    assert sum(summary["users"].values()) + left == 6_040
    check_leaks(result, knob, DATA, raw[0])
