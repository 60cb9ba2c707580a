"""rec.lists: the users' later items with true negatives, right labels, in the ranker's order."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rec.config import Prepare
from rec.errors import RecError
from rec.interactions import split_users
from tests.leaks import check_leaks
from tests.prepared import (
    DATA,
    FILMS,
    PREPARE,
    SEED,
    Prepared,
    Row,
    prepare_rows,
    ratings_of,
    regular,
    tie,
)

#: user, item, rating, timestamp
Known = tuple[str, str, int, int]
#: 2 to 12 rows for each of 30 users, with ties in time and, by rating 9, rows that are dropped.
HISTORIES = st.lists(
    st.lists(
        st.tuples(st.integers(0, 14), st.sampled_from([1, 3, 4, 5, 9]), st.integers(1, 6)),
        min_size=2,
        max_size=12,
        unique_by=lambda row: row[0],
    ),
    min_size=30,
    max_size=30,
).map(
    lambda users: [
        (f"u{user:02}", f"i{item:02}", rating, second)
        for user, rows in enumerate(users)
        for item, rating, second in rows
    ]
)
KNOBS = st.builds(
    lambda own, negatives, exponent, protocols, most: replace(
        PREPARE,
        list_interactions=own,
        list_size=own + negatives,
        popularity_exponent=exponent,
        negatives=protocols,
        lists_per_user=most,
    ),
    st.integers(1, 3),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.75, 2.0]),
    st.sampled_from(
        [["popularity"], ["uniform"], ["popularity", "uniform"], ["uniform", "popularity"]]
    ),
    st.sampled_from([None, 1, 2]),
)
LENIENT = replace(DATA, bad_rows=0.9)
POPULARITY, UNIFORM, BOTH = (
    replace(PREPARE, list_size=6, negatives=protocols)
    for protocols in (["popularity"], ["uniform"], ["popularity", "uniform"])
)


def prepared_or_skip(rows: list[Known], prepare: Prepare) -> Prepared:
    try:
        return prepare_rows(rows, FILMS, prepare, LENIENT)
    except RecError:
        assume(False)
        raise


@settings(max_examples=15)
@given(HISTORIES, KNOBS)
def test_lists_are_the_plain_ones(rows: list[Known], knob: Prepare) -> None:
    result = prepared_or_skip(rows, knob)
    check_leaks(result, knob, LENIENT, ratings_of(rows))
    seen, histories = defaultdict(set), defaultdict(list)
    for user, item, rating, second in rows:
        seen[user].add(item)
        if rating != 9:
            histories[user].append((second, item, rating))
    catalogue = {item for own in histories.values() if len(own) > 1 for _, item, _ in own}
    expected, dropped = [], Counter[str]()
    for user, own in histories.items():
        own.sort(key=lambda row: (row[0], tie(user, row[1])))
    for user, history in sorted((u, h) for u, h in histories.items() if len(h) > 1):
        size, start = knob.list_interactions, min(30, (len(history) + 1) // 2)
        made = 0
        for block, place in enumerate(range(start, len(history), size)):
            cells = history[place : place + size]
            if len(cells) < size:
                dropped["short last block"] += 1
            elif all(rating < 4 for _, _, rating in cells):
                dropped["without a positive"] += 1
            elif len(catalogue - seen[user]) < knob.list_size - size:
                dropped["too few items left as negatives"] += 1
            elif made == knob.lists_per_user:
                dropped["beyond prepare.lists_per_user"] += 1
            else:
                made += 1
                labels = {item: int(rating >= 4) for _, item, rating in cells}
                expected.append((f"{user}-{block}", user, place, labels))
    found = [
        (
            row["list"],
            row["user"],
            row["position"],
            {
                item: label
                for item, label in zip(row["items"], row["labels"], strict=True)
                if item in seen[row["user"]]
            },
        )
        for row in result.lists.iter_rows(named=True)
    ]
    assert found == expected
    summary = result.summary
    assert +Counter(summary["dropped"]["lists"]) == dropped
    assert sum(summary["lists"].values()) == len(result.lists)
    assert sum(summary["users"].values()) == len(result.users)
    assert summary["interactions"] == len(result.interactions)
    times = Counter(result.interactions.select("user", "timestamp").rows())
    assert summary["tied"] == sum(count for count in times.values() if count > 1)
    positives = [sum(labels) for labels in result.lists["labels"]]
    assert summary["positives_per_list"] == pytest.approx(np.mean(positives), abs=1e-4)
    users = summary["dropped"]["users"]
    long = sum(len(history) > 1 for history in histories.values())
    assert users["without a list"] == long - len(result.users)
    assert users["too few interactions"] == len(seen) - long
    for user, items in result.interactions.group_by("user").agg("item").rows():
        assert items == [item for _, item, _ in histories[user]]


def test_items_stand_by_popularity_over_train_users() -> None:
    result = prepare_rows(regular(), FILMS, BOTH)
    train = result.users.filter(pl.col("split") == "train")
    counts = Counter(result.interactions.join(train, on="user", how="semi")["item"])
    ties: set[tuple[str, str]] = set()
    for items in [*result.lists["items"].to_list(), *result.further["uniform"]["items"].to_list()]:
        popularity = [counts[item] for item in items]
        assert popularity == sorted(popularity, reverse=True)
        for first, second in itertools.combinations(items, 2):
            if counts[first] == counts[second]:
                assert (second, first) not in ties
                ties.add((first, second))
    assert any(first > second for first, second in ties), "ties stand in the order of ids"


def arithmetic() -> list[Row]:
    """60 users with 14 of 25 items, one of which nearly all of them have."""
    rows: list[Row] = []
    for user in range(60):
        items = [(user * user + 3 * i * i + user * i) * (i % 3 + 1) % 25 for i in range(40)]
        rows += [
            (f"u{user:02}", f"i{item:02}", 1 + (user + place * place) % 5, 10**9 + place)
            for place, item in enumerate(list(dict.fromkeys(items))[:14])
        ]
    return rows


@pytest.mark.parametrize(
    ("prepare", "digest"),
    [
        (POPULARITY, "e93941a335988b9f40c82696d5a6d41157166eea70a583296f0f1ad7605fc7d1"),
        (UNIFORM, "8380f6de7d032ba5011792c9767316d221920fd811d2ca4cdd01142afe693c10"),
    ],
    ids=["popularity", "uniform"],
)
def test_lists_of_a_seed_stay_what_they_are(prepare: Prepare, digest: str) -> None:
    """A change of this digest changes every result: it belongs under Changes results."""
    lists = prepare_rows(arithmetic(), FILMS, prepare).lists
    assert len(lists) == 108
    assert hashlib.sha256(repr(lists.rows()).encode()).hexdigest() == digest


def test_lists_of_a_protocol_do_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte, also where lists are filled and written a few at a time."""
    alone = {p.negatives[0]: prepare_rows(arithmetic(), FILMS, p) for p in (POPULARITY, UNIFORM)}
    lists = {name: result.files["lists"] for name, result in alone.items()}
    assert lists["popularity"] != lists["uniform"]
    for protocols in (["popularity", "uniform"], ["uniform", "popularity"]):
        result = prepare_rows(arithmetic(), FILMS, replace(BOTH, negatives=protocols))
        main, further = protocols
        expected = alone[main].files | {further: lists[further]}
        assert result.files == expected
        assert result.summary == alone[main].summary | {"protocols": protocols}
    monkeypatch.setattr("rec.range_tables.LISTS_AT_ONCE", 7)
    result = prepare_rows(arithmetic(), FILMS, BOTH)
    assert result.lists.equals(alone["popularity"].lists)
    assert result.further["uniform"].equals(alone["uniform"].lists)


def test_a_row_that_was_dropped_makes_no_negative() -> None:
    """The user met the item, whatever was wrong with the rating or the time."""
    bad: list[Row] = [(f"u{u}", f"i{(u * 7 + 12) % 25:02}", 9, 5) for u in range(40)]
    bad += [(f"u{u}", f"i{(u * 7 + 13) % 25:02}", 4, 0) for u in range(40)]
    check_leaks(prepare_rows(regular() + bad, FILMS), PREPARE, DATA, ratings_of(regular() + bad))
    pairs = {(row[0], row[1]) for row in bad}
    met = [
        (row["user"], item)
        for row in prepare_rows(regular(), FILMS).lists.iter_rows(named=True)
        for item in row["items"]
        if (row["user"], item) in pairs
    ]
    assert met, "else the test shows nothing"


def test_first_lists_are_kept_as_they_were() -> None:
    everything = prepare_rows(regular(), FILMS)
    one = prepare_rows(regular(), FILMS, replace(PREPARE, lists_per_user=1))
    assert one.lists.equals(everything.lists.unique("user", keep="first", maintain_order=True))
    beyond = len(everything.lists) - len(one.lists)
    assert one.summary["dropped"]["lists"]["beyond prepare.lists_per_user"] == beyond > 0


def test_another_seed_draws_other_negatives() -> None:
    first, second = (prepare_rows(regular(), FILMS, seed=seed).lists for seed in (1, 2))
    assert first["list"].equals(second["list"])
    assert not first["items"].list.sort().equals(second["items"].list.sort())


def test_lists_without_a_positive_and_their_users_are_dropped() -> None:
    low: list[Row] = [("low", f"i{i:02}", 3.0, i + 1) for i in range(12)]
    mixed: list[Row] = [("mixed", f"i{i:02}", 4.0 if i == 9 else 3.0, i + 1) for i in range(13)]
    result = prepare_rows(regular() + low + mixed, FILMS)
    assert "low" not in result.users["user"] and "low" not in result.interactions["user"]
    assert result.lists.filter(pl.col("user") == "mixed")["list"].to_list() == ["mixed-1"]
    dropped = result.summary["dropped"]
    assert dropped["lists"]["without a positive"] == 3 + 2
    assert dropped["users"]["without a list"] == 1


@pytest.mark.parametrize(("met", "lists"), [(24, 0), (23, 5)])
def test_items_barely_enough_and_too_few(met: int, lists: int) -> None:
    """The last free items are found however unlikely the draws are."""
    rows: list[Row] = [("most", f"i{i:02}", 5.0, i + 1) for i in range(met)]
    result = prepare_rows(regular() + rows, FILMS)
    found = result.lists.filter(pl.col("user") == "most")["items"].to_list()
    assert len(found) == lists
    assert all({"i23", "i24"} <= set(items) for items in found)
    few = result.summary["dropped"]["lists"]["too few items left as negatives"]
    assert few == (0 if lists else 6)


def test_split_without_a_list_is_an_error() -> None:
    users = pl.Series([f"u{u}" for u in range(40)])
    splits = dict(zip(users, split_users(users, PREPARE, SEED), strict=True))
    rows = [(str(u), i, 3.0 if splits[str(u)] == "test" else r, t) for u, i, r, t in regular()]
    with pytest.raises(RecError, match="no user of 30 is in the split 'test'"):
        prepare_rows(rows, FILMS)


def test_no_list_at_all_says_why() -> None:
    with pytest.raises(RecError, match=r"no list .*without a positive 120.*data\.positive_rating"):
        prepare_rows(regular(rating=3.0), FILMS)


def test_popular_items_are_drawn_more_often_than_uniformly() -> None:
    """Three of four users have rated the first six films; the lists of the fourth are looked at."""
    popular = [f"i{i:02}" for i in range(6)]
    rows: list[Row] = [
        (f"{'new' if u % 4 == 0 else 'old'}{u}", item, 5.0, second + 1)
        for u in range(80)
        for second, item in enumerate(
            ([] if u % 4 == 0 else popular) + [f"i{6 + (u * 5 + i) % 19:02}" for i in range(8)]
        )
    ]
    share = {}
    for exponent in (0.0, 2.0):
        result = prepare_rows(rows, FILMS, replace(PREPARE, popularity_exponent=exponent))
        lists = result.lists.filter(pl.col("user").str.starts_with("new"))
        share[exponent] = sum(len(set(items) & set(popular)) for items in lists["items"].to_list())
    assert share[2.0] > 1.3 * share[0.0] > 0
    uniform = prepare_rows(rows, FILMS, replace(PREPARE, negatives=["uniform"]))
    flat = prepare_rows(rows, FILMS, replace(PREPARE, popularity_exponent=0.0))
    assert uniform.lists.equals(flat.lists)
