"""rec.statistics: figures by hand, and against plain Python on tables of any kind."""

from __future__ import annotations

import doctest
import json
from collections import Counter
from datetime import UTC, datetime
from itertools import permutations
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec import distributions, popularity
from rec.distributions import CURVE, Distribution, merged
from rec.errors import RecError
from rec.popularity import expected_ndcg, expected_precision
from rec.rerank.metrics import average_precision, ndcg
from rec.statistics import RATINGS, SPLITS, describe
from rec.tables import INTERACTIONS, ITEMS, LISTS, USERS, read_protocols
from tests.described import (
    CLEAN,
    FAULTY,
    Made,
    described,
    frame,
    small,
    statistics,
    uniform_lists,
    write_tables,
)


@pytest.mark.parametrize("module", [distributions, popularity])
def test_examples_in_docstrings(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0


def test_sizes_by_hand() -> None:
    found = statistics()
    assert {name: found[name] for name in list(found)[:9]} == {
        "users": 4,
        "items": 4,
        "interactions": 8,
        "lists": 5,
        "density": 0.5,
        "first_day": "1970-01-11",
        "last_day": "1970-02-10",
        "share_of_items_without_year": 0.25,
        "share_of_items_without_categories": 0.25,
    }
    assert found["share_of_interactions_tied"] == 2 / 8
    assert found["splits"]["train"] == {
        "users": 2,
        "interactions": 5,
        "profile_interactions": 3,
        "lists": 3,
        "lists_without_a_positive": 0,
        "positives": 4,
    }
    assert found["splits"]["valid"]["lists_without_a_positive"] == 1
    assert found["ratings"] == [
        {"from": 1.0, "to": 1.0, "count": 2},
        {"from": 3.5, "to": 3.5, "count": 3},
        {"from": 5.0, "to": 5.0, "count": 3},
    ]
    assert found["per_list"]["history"]["maximum"] == 3
    assert found["per_item"]["interactions"]["minimum"] == 0


def test_popularity_by_hand() -> None:
    """The lists of u1 are a, b, d with d liked, and a, c with a liked."""
    found = statistics()["popularity_baseline"]
    first, second = (0.5 + 1) / 2, (1 / np.log2(3) + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert found["train"] == {
        "lists": 3,
        "users": 2,
        "ndcg@5": pytest.approx((first + second) / 2, abs=1e-6),
        "ndcg@5_random": pytest.approx(
            ((expected_ndcg(3, 1) + expected_ndcg(2, 1)) / 2 + expected_ndcg(4, 2)) / 2, abs=1e-6
        ),
        "map@5": pytest.approx(((1 / 3 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2, abs=1e-6),
        "map@5_random": pytest.approx(
            ((expected_precision(3, 1) + 0.75) / 2 + expected_precision(4, 2)) / 2, abs=1e-6
        ),
    }
    assert found["valid"] is None
    assert found["test"]["ndcg@5"] == found["test"]["map@5"] == 1.0


def test_a_further_protocol_by_hand() -> None:
    """By popularity the positive of the one test list comes third."""
    found = statistics()
    assert found["protocols"] == ["popularity", "uniform"]
    assert found["further_protocols"] == {
        "uniform": {
            "lists": 1,
            "users": 1,
            "ndcg@5": 0.5,
            "ndcg@5_random": pytest.approx(expected_ndcg(3, 1), abs=1e-6),
            "map@5": pytest.approx(1 / 3, abs=1e-6),
            "map@5_random": pytest.approx(expected_precision(3, 1), abs=1e-6),
        }
    }
    alone = described(small())
    assert alone["protocols"] == ["popularity"] and alone["further_protocols"] == {}
    main = ("splits", "per_list", "popularity_baseline")
    assert all(alone[name] == found[name] for name in main)


def test_what_was_dropped_comes_from_the_preparation() -> None:
    found = statistics()
    assert found["dropped"] == FAULTY["dropped"]
    assert found["rows_read"] == {"ratings": 31_415}
    assert found["candidate_lists"] == {
        "number": 5 + 3 + 2,
        "without_a_positive": 3,
        "share_without_a_positive": 0.3,
    }


def test_every_figure_is_json_in_the_same_order() -> None:
    once, again = (
        json.dumps(described(small(), FAULTY, uniform=uniform_lists())) for _ in range(2)
    )
    assert once == again


def random_order(values: list[float], weigh: Any, k: int) -> float:
    return float(np.mean([weigh([range(len(v), 0, -1)], [v], k)[0] for v in permutations(values)]))


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 4, 6])
def test_random_orders_are_the_mean_over_all_orders(length: int, k: int) -> None:
    for positives in range(1, length + 1):
        labels = [1.0] * positives + [0.0] * (length - positives)
        expected = random_order(labels, ndcg, k)
        assert expected_ndcg(length, positives, k) == pytest.approx(expected)
        expected = random_order(labels, average_precision, k)
        assert expected_precision(length, positives, k) == pytest.approx(expected)


VALUES = st.lists(st.integers(0, 70), min_size=1, max_size=60)


@given(VALUES)
def test_distribution_is_that_of_the_values(values: list[int]) -> None:
    found = Distribution(sorted(Counter(values).items()))
    check_spread(found.spread(), values)
    check_concentration(found.gini(), [found.held_by_most(share) for share in CURVE], values)
    half = len(values) // 2
    parts = [Distribution(sorted(Counter(part).items())) for part in (values[:half], values[half:])]
    assert merged(parts) == found


def check_spread(spread: dict[str, Any], values: list[int]) -> None:
    """Each figure as its docstring has it."""
    ordered = sorted(values)
    quartiles = [ordered[ceil(share * len(values)) - 1] for share in (0.25, 0.5, 0.75)]
    keys = ("minimum", "lower_quartile", "median", "upper_quartile", "maximum")
    assert [spread[key] for key in keys] == [ordered[0], *quartiles, ordered[-1]]
    assert spread["mean"] == pytest.approx(sum(values) / len(values), abs=1e-6)
    bars = spread["histogram"]
    for bar in bars:
        assert bar["count"] == sum(bar["from"] <= value <= bar["to"] for value in values)
    assert sum(bar["count"] for bar in bars) == len(values)
    assert [bar["to"] + 1 for bar in bars[:-1]] == [bar["from"] for bar in bars[1:]]


def check_concentration(gini: float | None, held: list[float | None], values: list[int]) -> None:
    """The Gini coefficient from all pairs of values, and shares from the sorted values."""
    total, number = sum(values), len(values)
    if not total:
        assert gini is None and set(held) == {None}
        return
    differences = sum(abs(a - b) for a in values for b in values)
    assert gini == pytest.approx(differences / (2 * number * total), abs=1e-6)
    most = sorted(values, reverse=True)
    for share, found in zip(CURVE, held, strict=True):
        top = ceil(round(share * number, 9))
        assert found == pytest.approx(sum(most[:top]) / total, abs=1e-6)


@st.composite
def tables(draw: st.DrawFn) -> Made:
    """Tables of up to 6 users and 9 items with lists of any length, shuffled."""
    items = [f"i{n}" for n in range(draw(st.integers(1, 9)))]
    ranks = draw(st.permutations(range(len(items))))
    users = {f"u{n}": draw(st.sampled_from(SPLITS)) for n in range(draw(st.integers(1, 6)))}
    seen = [(user, items[0], 1.0, 5) for user in users]
    row = st.tuples(
        st.sampled_from(sorted(users)),
        st.sampled_from(items),
        st.sampled_from([0.5, 2.0, 5.0]),
        st.integers(1, 4_102_444_800),
    )
    seen += draw(st.lists(row, max_size=30))
    one = st.tuples(
        st.sampled_from(sorted(users)),
        st.lists(st.sampled_from(items), min_size=1, unique=True),
        st.integers(0, 2**9 - 1),
        st.integers(0, 300),
    )
    shown = draw(st.lists(one, min_size=1, max_size=12))
    counts = Counter(user for user, *_ in shown)
    return Made(
        interactions=frame(
            [(*values, place, "list") for place, values in enumerate(seen)], INTERACTIONS
        ),
        items=frame(
            [
                (item, "Title", None if rank % 2 else 1999, ["Drama"] * (rank % 3), 0, rank)
                for item, rank in zip(items, ranks, strict=True)
            ],
            ITEMS,
        ),
        users=frame([(user, split, 1, counts[user]) for user, split in users.items()], USERS),
        lists=frame(
            [
                (str(n), user, users[user], position, own, [bits >> i & 1 for i in range(len(own))])
                for n, (user, own, bits, position) in enumerate(shown)
            ],
            LISTS,
        ),
    )


@settings(max_examples=40)
@given(tables())
def test_queries_equal_plain_python(made: Made) -> None:
    other = made.lists.with_columns(pl.col("labels").list.reverse())
    found = described(made, uniform=other)
    assert found["further_protocols"] == {"uniform": baseline(made._replace(lists=other), "test")}
    seen, lists = made.interactions.to_dicts(), made.lists.to_dicts()
    assert found["density"] == pytest.approx(len(seen) / len(made.users) / len(made.items), 1e-5)
    days = [datetime.fromtimestamp(row["timestamp"], UTC).date().isoformat() for row in seen]
    assert (found["first_day"], found["last_day"]) == (min(days), max(days))
    ratings = {bar["from"]: bar["count"] for bar in found["ratings"]}
    assert ratings == Counter(row["rating"] for row in seen)
    of_user, of_item = (Counter(row[key] for row in seen) for key in ("user", "item"))
    check_spread(found["per_user"]["interactions"], [of_user[u] for u in made.users["user"]])
    check_spread(found["per_user"]["lists"], made.users["lists"].to_list())
    of_items = [of_item[item] for item in made.items["item"]]
    check_spread(found["per_item"]["interactions"], of_items)
    held = [entry["interactions_share"] for entry in found["per_item"]["most_popular"]]
    check_concentration(found["per_item"]["gini"], held, of_items)
    check_spread(found["per_list"]["items"], [len(row["items"]) for row in lists])
    check_spread(found["per_list"]["positives"], [sum(row["labels"]) for row in lists])
    check_spread(found["per_list"]["history"], [row["position"] for row in lists])
    for split in SPLITS:
        mine = made.users.filter(split=split)["user"].to_list()
        assert found["splits"][split]["interactions"] == sum(of_user[user] for user in mine)
        assert found["popularity_baseline"][split] == baseline(made, split)


def baseline(made: Made, split: str) -> dict[str, Any] | None:
    """The popularity baseline of a split with `rec.rerank.metrics`, list by list."""
    rank = dict(made.items.select("item", "rank").iter_rows())
    of_user: dict[str, list[list[float]]] = {}
    for row in made.lists.filter(split=split).to_dicts():
        labels, positives = [row["labels"]], sum(row["labels"])
        scores = [[-rank[item] for item in row["items"]]]
        if positives:
            shape = (len(row["items"]), positives)
            values = [
                *(ndcg(scores, labels, 5)[0], expected_ndcg(*shape)),
                *(average_precision(scores, labels, 5)[0], expected_precision(*shape)),
            ]
            of_user.setdefault(row["user"], []).append(values)
    if not of_user:
        return None
    means = np.mean([np.mean(values, axis=0) for values in of_user.values()], axis=0)
    names = ("ndcg@5", "ndcg@5_random", "map@5", "map@5_random")
    return {
        "lists": sum(map(len, of_user.values())),
        "users": len(of_user),
        **{name: pytest.approx(mean, abs=2e-6) for name, mean in zip(names, means, strict=True)},
    }


def test_many_ratings_are_counted_in_intervals() -> None:
    ratings = [float(rating) for rating in range(101)]
    one = small().interactions.row(0, named=True)
    many = pl.DataFrame([one | {"rating": r} for r in ratings], schema=dict(INTERACTIONS))
    bars = described(small()._replace(interactions=many))["ratings"]
    assert len(bars) == RATINGS
    assert (bars[0], bars[-1]) == (
        {"from": 0.0, "to": 5.0, "count": 5},
        {"from": 95.0, "to": 100.0, "count": 6},
    )
    assert sum(bar["count"] for bar in bars) == len(ratings)


def test_lists_of_shown_items_may_hold_an_item_that_no_table_has() -> None:
    """It stands behind all others."""
    lists = frame([("1", "u4", "test", 1, ["unknown", "c"], [1, 0])], LISTS)
    found = described(small()._replace(lists=lists))["popularity_baseline"]["test"]
    assert found["map@5"] == 0.5


@pytest.mark.parametrize("table", Made._fields)
def test_a_wrong_table_is_named(table: str, tmp_path: Path) -> None:
    written = write_tables(small(), tmp_path)
    path: Path = getattr(written, table)
    pl.DataFrame({"user": [1]}).write_parquet(path)
    with pytest.raises(RecError, match=rf"{table}\.parquet: column"):
        describe(written, CLEAN, tmp_path / "work")
    path.write_bytes(b"no table")
    with pytest.raises(RecError, match=rf"{table}\.parquet: not a readable Parquet file"):
        describe(written, CLEAN, tmp_path / "work")
    path.unlink()
    with pytest.raises(RecError, match=rf"{table}\.parquet: no such file"):
        describe(written, CLEAN, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_empty_tables_are_an_error() -> None:
    with pytest.raises(RecError, match="the tables hold no users, items, lists or interactions"):
        described(small()._replace(lists=small().lists.clear()))


@pytest.mark.parametrize(
    "broken",
    [{"dropped": None}, {"dropped": 3}, {"dropped": {"users": {"all": "x"}}}, {"ratings": "x"}],
)
def test_broken_counts_are_an_error(broken: Any) -> None:
    with pytest.raises(RecError, match=r"prepare\.json: no counts of what was dropped"):
        described(small(), {**CLEAN, **broken})


@pytest.mark.parametrize("broken", [{}, [], {"protocols": "uniform"}, {"protocols": []}])
def test_counts_without_protocols_are_an_error(broken: Any) -> None:
    with pytest.raises(RecError, match=r"prepare\.json: protocols: .* one name or more"):
        read_protocols(broken)


def test_a_broken_table_of_a_further_protocol_is_named(tmp_path: Path) -> None:
    written = write_tables(small(), tmp_path, uniform=uniform_lists())
    pl.DataFrame({"user": [1]}).write_parquet(written.further["uniform"])
    with pytest.raises(RecError, match=r"lists-uniform\.parquet: column"):
        describe(written, FAULTY, tmp_path / "work")
