"""rec.lists: no leakage, true negatives, right labels, and draws that depend on nothing else."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rec import lists as module
from rec.config import Prepare
from rec.errors import RecError
from rec.interactions import Histories, prepare_histories, split_users
from rec.lists import Catalogue, Prepared, draw_negatives, prepare_lists
from rec.tables import INTERACTIONS, LISTS, USERS, check_schema
from tests.test_interactions import DATA, PREPARE, Row, histories, items_of, ratings_of

SEED = 2026
FILMS = items_of(*(f"i{i:02}" for i in range(25)))


def prepared(ratings: pl.DataFrame, prepare: Prepare = PREPARE) -> tuple[Histories, Prepared]:
    known = prepare_histories(ratings, FILMS, DATA, prepare, SEED)
    return known, prepare_lists(known, prepare, DATA.positive_rating, SEED)


def prepared_or_skip(
    ratings: pl.DataFrame, prepare: Prepare = PREPARE
) -> tuple[Histories, Prepared]:
    try:
        return prepared(ratings, prepare)
    except RecError:
        assume(False)
        raise


def regular(users: int = 40, interactions: int = 12, rating: float = 5.0) -> pl.DataFrame:
    """Users with distinct histories of which every list has a positive."""
    rows: list[Row] = [
        (f"u{u}", f"i{(u * 7 + i) % 25:02}", rating, i)
        for u in range(users)
        for i in range(interactions)
    ]
    return ratings_of(rows)


knobs = st.builds(
    lambda own, negatives, exponent, kind, most: replace(
        PREPARE,
        list_interactions=own,
        list_size=own + negatives,
        popularity_exponent=exponent,
        negatives=kind,
        lists_per_user=most,
    ),
    st.integers(1, 3),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.75, 2.0]),
    st.sampled_from(["popularity", "uniform"]),
    st.sampled_from([None, 1, 2]),
)


@settings(max_examples=40, deadline=None)
@given(histories, knobs)
def test_lists_hold_the_users_later_items_and_true_negatives(
    ratings: pl.DataFrame, knob: Prepare
) -> None:
    known, result = prepared_or_skip(ratings, knob)
    rated = {(row[0], row[1]): row[2] for row in ratings.rows()}
    times: dict[str, list[str]] = {}
    for user, item in result.interactions.select("user", "item").rows():
        times.setdefault(user, []).append(item)
    profile = dict(result.users.select("user", "profile_interactions").rows())
    for row in result.lists.iter_rows(named=True):
        user, start, items = row["user"], row["position"], row["items"]
        assert len(items) == len(set(items)) == knob.list_size
        own = times[user][start : start + knob.list_interactions]
        assert start >= profile[user]
        assert not set(items) & set(times[user][:start])
        assert set(own) <= set(items)
        assert all((user, item) not in rated for item in set(items) - set(own))
        positive = {item for item in own if rated[user, item] >= 4}
        assert positive
        assert row["labels"] == [int(item in positive) for item in items]
    check_schema(result.lists, LISTS, "lists")
    check_schema(result.users, USERS, "users")
    check_schema(result.interactions, INTERACTIONS, "interactions")
    assert known.items.equals(FILMS)


@settings(max_examples=20, deadline=None)
@given(histories, knobs)
def test_counts_agree(ratings: pl.DataFrame, knob: Prepare) -> None:
    known, result = prepared_or_skip(ratings, knob)
    per_user = Counter(result.lists["user"].to_list())
    assert dict(result.users.select("user", "lists").rows()) == per_user
    assert set(result.interactions["user"]) == set(per_user)
    summary = result.summary
    assert summary["dropped"]["users"]["without a list"] == len(known.users) - len(per_user)
    assert sum(summary["lists"].values()) == len(result.lists)
    assert summary["positives_per_list"] == pytest.approx(
        np.mean([sum(labels) for labels in result.lists["labels"]]), abs=1e-4
    )
    later = known.interactions.filter(pl.col("part") == "list").group_by("user").len()
    blocks = sum(-(-count // knob.list_interactions) for count in later["len"])
    assert blocks == len(result.lists) + sum(summary["dropped"]["lists"].values())


@settings(max_examples=15, deadline=None)
@given(histories, st.integers(0, 1000))
def test_order_of_rows_changes_nothing(ratings: pl.DataFrame, seed: int) -> None:
    _, first = prepared_or_skip(ratings)
    _, second = prepared(ratings.sample(fraction=1.0, shuffle=True, seed=seed))
    assert first.lists.equals(second.lists)
    assert first.users.equals(second.users)
    assert first.summary == second.summary


def test_items_stand_by_popularity_over_train_users() -> None:
    _, result = prepared(regular())
    train = result.users.filter(pl.col("split") == "train")
    counts = Counter(result.interactions.join(train, on="user", how="semi")["item"].to_list())
    ties: set[tuple[str, str]] = set()
    for items in result.lists["items"].to_list():
        popularity = [counts[item] for item in items]
        assert popularity == sorted(popularity, reverse=True)
        for first, second in itertools.combinations(items, 2):
            if counts[first] == counts[second]:
                assert (second, first) not in ties
                ties.add((first, second))
    assert any(first > second for first, second in ties), "ties stand in the order of ids"


def test_a_user_outside_train_changes_no_other_list() -> None:
    ratings = regular()
    names = pl.DataFrame({"user": [f"new{i}" for i in range(40)]})
    splits = dict(split_users(names, PREPARE, SEED).rows())
    new = next(user for user, split in splits.items() if split == "test")
    rows: list[Row] = [(new, f"i{i:02}", 4.0, i) for i in range(8)]
    _, before = prepared(ratings)
    _, after = prepared(pl.concat([ratings, ratings_of(rows)]))
    assert set(after.users["user"]) - set(before.users["user"]) == {new}
    assert after.lists.filter(pl.col("user") != new).equals(before.lists)


def test_first_lists_are_kept_as_they_were() -> None:
    _, everything = prepared(regular())
    _, one = prepared(regular(), replace(PREPARE, lists_per_user=1))
    assert one.lists.equals(everything.lists.unique("user", keep="first", maintain_order=True))
    beyond = len(everything.lists) - len(one.lists)
    assert one.summary["dropped"]["lists"]["beyond prepare.lists_per_user"] == beyond > 0


def test_another_seed_draws_other_negatives() -> None:
    known = prepare_histories(regular(), FILMS, DATA, PREPARE, SEED)
    first, second = (prepare_lists(known, PREPARE, 4, seed).lists for seed in (1, 2))
    assert first["list"].equals(second["list"])
    assert not first["items"].equals(second["items"])


def test_lists_without_a_positive_and_their_users_are_dropped() -> None:
    low: list[Row] = [("low", f"i{i:02}", 3.0, i) for i in range(12)]
    mixed: list[Row] = [("mixed", f"i{i:02}", 4.0 if i == 9 else 3.0, i) for i in range(13)]
    _, result = prepared(pl.concat([regular(), ratings_of(low + mixed)]))
    assert result.lists.filter(pl.col("user") == "low").is_empty()
    assert "low" not in result.users["user"] and "low" not in result.interactions["user"]
    assert result.lists.filter(pl.col("user") == "mixed")["list"].to_list() == ["mixed-1"]
    dropped = result.summary["dropped"]
    assert dropped["lists"]["without a positive"] == 3 + 2
    assert dropped["users"]["without a list"] == 1
    assert result.summary["lists_with_all_own_positive"] == len(result.lists) - 1


def test_user_who_has_seen_nearly_everything_has_no_lists() -> None:
    rows: list[Row] = [("all", f"i{i:02}", 5.0, i) for i in range(24)]
    _, result = prepared(pl.concat([regular(), ratings_of(rows)]))
    assert "all" not in result.users["user"]
    assert result.summary["dropped"]["lists"]["too few items left as negatives"] == 6


def test_items_barely_enough_are_all_used() -> None:
    """The last free items are found however unlikely the draws are."""
    rows: list[Row] = [("most", f"i{i:02}", 5.0, i) for i in range(23)]
    _, result = prepared(pl.concat([regular(), ratings_of(rows)]))
    lists = result.lists.filter(pl.col("user") == "most")
    assert len(lists) == 5
    assert all({"i23", "i24"} <= set(items) for items in lists["items"].to_list())


def test_split_without_a_list_is_an_error() -> None:
    splits = split_users(pl.DataFrame({"user": [f"u{u}" for u in range(40)]}), PREPARE, SEED)
    test = splits.filter(pl.col("split") == "test")["user"].to_list()
    low = pl.when(pl.col("user").is_in(test)).then(3.0).otherwise("rating").cast(pl.Float32)
    known = prepare_histories(regular().with_columns(rating=low), FILMS, DATA, PREPARE, SEED)
    with pytest.raises(RecError, match="in the split 'test'"):
        prepare_lists(known, PREPARE, 4, SEED)


def test_no_list_at_all_says_why() -> None:
    known = prepare_histories(regular(rating=3.0), FILMS, DATA, PREPARE, SEED)
    with pytest.raises(RecError, match=r"no list .*without a positive 120.*data\.positive_rating"):
        prepare_lists(known, PREPARE, 4, SEED)


def requests(count: int, needed: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "list": [f"u-{i}" for i in range(count)],
            "user_code": [0] * count,
            "needed": [needed] * count,
        },
        schema={"list": pl.String, "user_code": pl.UInt32, "needed": pl.Int64},
    )


WEIGHTED = Catalogue(
    pl.DataFrame(
        {"item": [f"i{i}" for i in range(6)], "code": range(6), "rank": range(6)},
        schema={"item": pl.String, "code": pl.UInt32, "rank": pl.UInt32},
    ),
    np.array([8.0, 4.0, 2.0, 1.0, 1.0, 16.0]),
)
SEEN = pl.DataFrame(
    {"user_code": [0], "code": [5]}, schema={"user_code": pl.UInt32, "code": pl.UInt32}
)


@pytest.mark.parametrize("draws", [(16, 128), ()])
def test_draws_follow_the_weights(monkeypatch: pytest.MonkeyPatch, draws: tuple[int, ...]) -> None:
    """By draws and by the race alike; item 5, the likeliest, was seen."""
    monkeypatch.setattr(module, "DRAWS", draws)
    drawn = draw_negatives(requests(8000, 1), WEIGHTED, SEEN, SEED)
    counts = Counter(drawn["code"].to_list())
    assert 5 not in counts
    shares = [counts[code] / 8000 for code in range(5)]
    assert shares == pytest.approx([8 / 16, 4 / 16, 2 / 16, 1 / 16, 1 / 16], abs=0.02)


def test_race_and_draws_choose_second_items_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    by_draws = Counter(draw_negatives(requests(8000, 2), WEIGHTED, SEEN, SEED)["code"].to_list())
    monkeypatch.setattr(module, "DRAWS", ())
    by_race = Counter(draw_negatives(requests(8000, 2), WEIGHTED, SEEN, SEED)["code"].to_list())
    for code in range(5):
        assert by_draws[code] / 8000 == pytest.approx(by_race[code] / 8000, abs=0.025)


@pytest.mark.parametrize("draws", [(16, 128), (2, 3), ()])
def test_a_lists_draws_depend_on_no_other_list(
    monkeypatch: pytest.MonkeyPatch, draws: tuple[int, ...]
) -> None:
    monkeypatch.setattr(module, "DRAWS", draws)
    everything = draw_negatives(requests(60, 3), WEIGHTED, SEEN, SEED)
    assert everything.group_by("list").len()["len"].to_list() == [3] * 60
    monkeypatch.setattr(module, "ROWS", 7)
    some = requests(60, 3).filter(pl.col("list").str.ends_with("5")).reverse()
    expected = everything.filter(pl.col("list").str.ends_with("5"))
    assert draw_negatives(some, WEIGHTED, SEEN, SEED).equals(expected)


def test_popular_items_are_drawn_more_often_than_uniformly() -> None:
    """Three of four users have rated the first six films; the lists of the fourth are looked at."""
    popular = [f"i{i:02}" for i in range(6)]
    rows: list[Row] = [
        (f"{'new' if u % 4 == 0 else 'old'}{u}", item, 5.0, second)
        for u in range(80)
        for second, item in enumerate(
            ([] if u % 4 == 0 else popular) + [f"i{6 + (u * 5 + i) % 19:02}" for i in range(8)]
        )
    ]
    share = {}
    for exponent in (0.0, 2.0):
        _, result = prepared(ratings_of(rows), replace(PREPARE, popularity_exponent=exponent))
        lists = result.lists.filter(pl.col("user").str.starts_with("new"))
        share[exponent] = sum(len(set(items) & set(popular)) for items in lists["items"].to_list())
    assert share[2.0] > 1.3 * share[0.0] > 0
    _, uniform = prepared(ratings_of(rows), replace(PREPARE, negatives="uniform"))
    _, flat = prepared(ratings_of(rows), replace(PREPARE, popularity_exponent=0.0))
    assert uniform.lists.equals(flat.lists)
