"""rec.interactions: what is dropped and counted, time order, the profile part, the split."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.config import Data, Prepare
from rec.errors import RecError
from rec.interactions import (
    clean_items,
    clean_ratings,
    order_interactions,
    prepare_histories,
    split_users,
    uniform,
)
from rec.tables import INTERACTIONS, ITEMS, RATINGS, check_schema

DATA = Data(name="toy", rating_minimum=1, rating_maximum=5, positive_rating=4)
PREPARE = Prepare(
    users=None,
    minimum_interactions=2,
    profile_interactions=30,
    list_interactions=2,
    list_size=4,
    lists_per_user=None,
    negatives="popularity",
    popularity_exponent=0.75,
    valid_share=0.3,
    test_share=0.3,
)
Row = tuple[str | None, str | None, float | None, int | None]


def ratings_of(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(RATINGS), orient="row")


def items_of(*ids: str) -> pl.DataFrame:
    rows = [(item, f"Film {item}", 1999, ["Drama"]) for item in ids]
    return pl.DataFrame(rows, schema=dict(ITEMS), orient="row")


def many_users(count: int) -> pl.DataFrame:
    return pl.DataFrame({"user": [f"u{i}" for i in range(count)]})


# 2 to 12 interactions for each of 30 users, with ties in time.
histories = st.lists(
    st.lists(
        st.tuples(st.integers(0, 14), st.integers(1, 5), st.integers(0, 6)),
        min_size=2,
        max_size=12,
        unique_by=lambda row: row[0],
    ),
    min_size=30,
    max_size=30,
).map(
    lambda users: ratings_of(
        [
            (f"u{user}", f"i{item:02}", rating, second)
            for user, rows in enumerate(users)
            for item, rating, second in rows
        ]
    )
)
CATALOGUE = items_of(*(f"i{i:02}" for i in range(15)))


def test_uniform_is_sha256() -> None:
    texts = ["2026:split:1", "2026:split:2", "", "é"]
    expected = [int(hashlib.sha256(t.encode()).hexdigest()[:13], 16) / 2**52 for t in texts]
    assert uniform(pl.Series(texts)).to_list() == expected


def test_each_reason_is_counted_in_order() -> None:
    good: list[Row] = [("a", item, 4.0, 10) for item in "pqrstuvwxyz"]
    faults: list[Row] = [
        good[0],  # exact duplicate
        ("a", None, 4.0, 10),
        (None, "p", 4.0, 10),
        ("a", "o", 4.0, None),
        ("a", "n", 5.5, 10),
        ("a", "m", 0.0, 10),
        ("a", "l", None, 10),
        ("a", "k", float("nan"), 10),
        ("a", "unknown", 3.0, 10),
        ("a", "p", 2.0, 11),  # later than the first rating of p
        ("b", "p", 4.0, 10),  # the only one of b
    ]
    items = items_of(*"klmnopqrstuvwxyz")
    kept, dropped = clean_ratings(ratings_of(good + faults), items, DATA, PREPARE)
    assert list(dropped.items()) == [
        ("exact duplicate", 1),
        ("user, item or time missing", 3),
        ("rating missing or out of range", 4),
        ("item without metadata", 1),
        ("repeated user and item", 1),
        ("user with too few interactions", 1),
    ]
    assert kept.sort("item").rows() == [("a", "p", 2.0, 11), *good[1:]]


def test_no_ratings_left() -> None:
    with pytest.raises(RecError, match=r"toy: 0 of 0 ratings would be dropped \(none were read\)"):
        clean_ratings(ratings_of([]), CATALOGUE, DATA, PREPARE)


@pytest.mark.parametrize(("bad", "fails"), [(4, False), (5, True)])
def test_more_than_half_dropped_is_an_error(bad: int, fails: bool) -> None:
    rows: list[Row] = [("a", f"i{i:02}", 4.0, i) for i in range(4)]
    rows += [("a", f"i{i + 4:02}", 9.0, i) for i in range(bad)]
    if not fails:
        kept, _ = clean_ratings(ratings_of(rows), CATALOGUE, DATA, PREPARE)
        assert len(kept) == 4
        return
    with pytest.raises(RecError, match=r"5 of 9 .*out of range 5.*data\.rating_minimum") as caught:
        clean_ratings(ratings_of(rows), CATALOGUE, DATA, PREPARE)
    assert "\n" not in str(caught.value)


def test_items_without_title_and_repeated_items_are_counted() -> None:
    rows: list[tuple[str | None, str | None, int, list[str] | None]] = [
        ("b", "Film", 1999, None),
        ("a", "", 1999, []),
        ("c", None, 1999, []),
    ]
    rows += [(None, "Film", 1999, []), ("b", "Alien", 1979, ["Horror"])]
    table = pl.DataFrame(rows, schema=dict(ITEMS), orient="row")
    expected = [("b", "Alien", 1979, ["Horror"])]
    for order in (table, table.reverse()):
        kept, dropped = clean_items(order)
        assert kept.rows() == expected
        assert dropped == {"id or title missing": 3, "repeated item": 1}
    with pytest.raises(RecError, match="none of 3 rows"):
        clean_items(table[1:4])


def test_time_order_breaks_ties_by_item() -> None:
    rows: list[Row] = [("a", "z", 1.0, 5), ("a", "b", 1.0, 5), ("a", "c", 1.0, 4)]
    table = order_interactions(ratings_of(rows), 30)
    assert table["item"].to_list() == ["c", "b", "z"]
    assert table["position"].to_list() == [0, 1, 2]
    assert table["part"].to_list() == ["profile", "profile", "list"]


@given(st.integers(1, 80), st.integers(1, 40))
def test_profile_is_the_first_min_of_knob_and_half(count: int, knob: int) -> None:
    rows: list[Row] = [("a", f"{i:03}", 3.0, i) for i in range(count)]
    parts = order_interactions(ratings_of(rows), knob)["part"].to_list()
    profile = min(knob, (count + 1) // 2)
    assert parts == ["profile"] * profile + ["list"] * (count - profile)


def test_split_shares_come_out() -> None:
    prepare = replace(PREPARE, valid_share=0.15, test_share=0.25)
    counts = split_users(many_users(4000), prepare, 2026)["split"].value_counts()
    shares = {split: count / 4000 for split, count in counts.rows()}
    assert shares["test"] == pytest.approx(0.25, abs=0.03)
    assert shares["valid"] == pytest.approx(0.15, abs=0.03)
    assert shares["train"] == pytest.approx(0.60, abs=0.03)


def test_adding_users_leaves_the_others_splits() -> None:
    few = split_users(many_users(40), PREPARE, 2026)
    many = split_users(many_users(90), PREPARE, 2026)
    assert many.join(few, on="user", how="semi").sort("user").equals(few)


def test_another_seed_splits_otherwise() -> None:
    users = many_users(40)
    assert not split_users(users, PREPARE, 1).equals(split_users(users, PREPARE, 2))


def test_fewer_users_are_among_the_more() -> None:
    users = many_users(200)
    fifty = split_users(users, replace(PREPARE, users=50), 2026)
    hundred = split_users(users, replace(PREPARE, users=100), 2026)
    everyone = split_users(users, PREPARE, 2026)
    assert (len(fifty), len(hundred), len(everyone)) == (50, 100, 200)
    assert len(fifty.join(hundred, on=["user", "split"])) == 50
    assert len(hundred.join(everyone, on=["user", "split"])) == 100
    assert len(split_users(users, replace(PREPARE, users=999), 2026)) == 200


def test_kept_users_are_those_of_the_lowest_hash() -> None:
    place = {
        f"u{i}": hashlib.sha256(f"2026:keep:u{i}".encode()).hexdigest()[:13] for i in range(200)
    }
    kept = split_users(many_users(200), replace(PREPARE, users=50), 2026)
    assert set(kept["user"]) == set(sorted(place, key=lambda user: place[user])[:50])


def test_kept_users_are_no_biased_choice_of_splits() -> None:
    """The hash that keeps a user is not the one that splits."""
    kept = split_users(many_users(4000), replace(PREPARE, users=400), 2026)
    assert kept.filter(pl.col("split") == "test").height / 400 == pytest.approx(0.3, abs=0.08)


def test_empty_split_names_the_key() -> None:
    users = many_users(40)
    with pytest.raises(RecError, match=r"split 'valid'; raise prepare\.valid_share"):
        split_users(users, replace(PREPARE, valid_share=0.0), 2026)
    with pytest.raises(RecError, match=r"split 'test'; raise prepare\.test_share"):
        split_users(users, replace(PREPARE, test_share=0.0), 2026)
    with pytest.raises(RecError, match=r"split 'train'; lower prepare\.valid_share"):
        split_users(users, replace(PREPARE, valid_share=0.5, test_share=0.5), 2026)
    with pytest.raises(RecError, match=r"keep more users \(prepare\.users\)"):
        split_users(users, replace(PREPARE, users=1), 2026)


def test_users_are_counted_by_reason() -> None:
    rows: list[Row] = [(f"u{u}", f"i{i:02}", 3.0, i) for u in range(60) for i in range(4)]
    rows += [("short", "i00", 3.0, 0), ("wrong", "i00", 9.0, 0)]
    prepared = prepare_histories(
        ratings_of(rows), CATALOGUE, DATA, replace(PREPARE, users=50), 2026
    )
    assert prepared.dropped["users"] == {"too few interactions": 2, "not among prepare.users": 10}
    assert len(prepared.users) == prepared.interactions["user"].n_unique() == 50
    assert prepared.users["profile_interactions"].to_list() == [2] * 50


def test_what_was_dropped_stays_seen() -> None:
    """An item whose rating was out of range was still interacted with: it can be no negative."""
    rows: list[Row] = [(f"u{u}", f"i{i:02}", 3.0, i) for u in range(40) for i in range(4)]
    rows += [("u1", "i09", 9.0, 0)]
    prepared = prepare_histories(ratings_of(rows), CATALOGUE, DATA, PREPARE, 2026)
    assert ("u1", "i09") in prepared.seen.rows()
    assert ("u1", "i09") not in prepared.interactions.select("user", "item").rows()


@settings(max_examples=15, deadline=None)
@given(histories, st.integers(0, 1000))
def test_order_of_rows_changes_nothing(ratings: pl.DataFrame, seed: int) -> None:
    shuffled = ratings.sample(fraction=1.0, shuffle=True, seed=seed)
    first = prepare_histories(ratings, CATALOGUE, DATA, PREPARE, 2026)
    second = prepare_histories(shuffled, CATALOGUE.reverse(), DATA, PREPARE, 2026)
    for name in ("interactions", "items", "users", "seen"):
        assert getattr(first, name).equals(getattr(second, name))
    assert first.dropped == second.dropped
    check_schema(first.interactions, INTERACTIONS, "interactions")
