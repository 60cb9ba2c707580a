from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.comparison.users import Run, best_rows, label_metrics, user_tables
from rec.errors import RecError
from rec.rerank.metrics import NAMES, RANKED, SCOPES, ranked_metrics
from rec.tables import USER_MEASURES, USER_METRICS, USER_SCOPES
from tests.comparison.made import NO_CLASSES, PROTOCOLS, first_hit, random_runs, table, users_of

SECOND = 1 / math.log2(3)  # NDCG of one positive on the second place
NONE = Run("none", "prm", 1)
BASE = Run("0", "prm", 1)


def value(users: pl.DataFrame, user: str, measure: str = "ndcg@5", variant: str = "none") -> float:
    found = users.filter((pl.col("user") == user) & (pl.col("variant") == variant))[measure]
    assert len(found) == 1
    return float(found[0])


def test_schema_names_the_metrics_of_the_library() -> None:
    assert tuple(RANKED) == USER_MEASURES and SCOPES == USER_SCOPES
    assert list(USER_METRICS)[-len(NAMES) :] == list(NAMES)


def test_user_value_is_the_mean_over_lists() -> None:
    users = users_of((NONE, table(NONE, {"a": first_hit(1, 2), "b": first_hit(3)})))
    assert value(users, "a") == pytest.approx((1 + SECOND) / 2)
    assert value(users, "a", "map@5") == pytest.approx(0.75)
    assert value(users, "b", "map@5") == pytest.approx(1 / 3)
    assert value(users, "b", "hit_rate@1") == 0 and value(users, "a", "hit_rate@1") == 0.5
    assert value(users, "b", "click@3") == 1
    assert users["lists"].to_list() == [2, 1]


def test_list_value_is_the_mean_over_responses() -> None:
    """A list with two responses weighs no more than the user's other list."""
    ranked = {"a": [[[1, 0], [0, 1]], [[1, 0], [1, 0]]], "b": [[[1, 0], [1, 0]]]}
    users = users_of((Run("1", "prm", 1), table(Run("1", "prm", 1), ranked)))
    assert value(users, "a", variant="1") == pytest.approx(((1 + SECOND) / 2 + 1) / 2)


def test_best_is_one_response_per_user_over_all_lists() -> None:
    """Response 0 is best on the first list, 1 on the second; over both, 1 is."""
    lists = [[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 0, 0]]]
    ranked = {"a": lists, "b": [[[1, 0, 0], [0, 1, 0]]]}
    users = users_of((BASE, table(BASE, ranked)))
    assert value(users, "a", variant="best") == pytest.approx((SECOND + 1) / 2)
    assert value(users, "a", "map@5", "best") == pytest.approx(0.75)
    assert value(users, "b", variant="best") == 1.0
    assert value(users, "a", variant="0") == pytest.approx((1 + SECOND + 0.5 + 1) / 4)


def test_best_of_equal_responses_is_the_first() -> None:
    keys = pl.DataFrame(
        [["p", "test", "a", "a-0", 1], ["p", "test", "a", "a-0", 2]],
        schema=["protocol", "split", "user", "list", "sample"],
        orient="row",
    )
    assert best_rows(keys, np.array([0.5, 0.5])).tolist() == [True, False]


def test_best_needs_two_responses_of_every_test_user() -> None:
    one = {"a": [[[1, 0], [0, 1]]], "b": [[[1, 0]]]}
    assert "best" not in users_of((BASE, table(BASE, one)))["variant"].to_list()
    valid = table(BASE, {"c": [[[1, 0]]]}, split="valid")
    both = {"a": [[[1, 0], [0, 1]]], "b": [[[1, 0], [1, 0]]]}
    users = users_of((BASE, pl.concat([table(BASE, both), valid])))
    assert users.filter(variant="best")["split"].to_list() == ["test", "test", "valid"]
    sft = Run("sft", "prm", 1)
    assert "best" not in users_of((sft, table(sft, both)))["variant"].to_list()


def test_best_is_chosen_anew_for_each_protocol_backbone_and_seed() -> None:
    users = user_tables(random_runs(["0"], told=3), PROTOCOLS, NO_CLASSES).users
    keys = ["protocol", "backbone", "seed", "user"]
    both = users.filter(variant="best").join(users.filter(variant="0"), on=keys)
    assert len(both) == 2 * 2 * 2 * 12
    gain = (both["ndcg@5"] - both["ndcg@5_right"]).to_numpy()
    assert gain.min() > -1e-12 and (gain > 1e-6).mean() > 0.5


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_order_of_rows_changes_no_bit(seed: int) -> None:
    runs = list(random_runs(["popularity", "0"], users=4, told=2))
    shuffled = [(run, rows.sample(fraction=1, shuffle=True, seed=seed)) for run, rows in runs]
    first = user_tables(runs, PROTOCOLS, NO_CLASSES).users
    assert user_tables(shuffled, PROTOCOLS, NO_CLASSES).users.equals(first)


def test_rows_are_sorted_and_orders_have_no_backbone() -> None:
    runs = reversed(list(random_runs(["popularity", "none"], users=3)))
    users = user_tables(runs, PROTOCOLS, NO_CLASSES).users
    keys = ["protocol", "backbone", "variant", "seed", "split", "user"]
    assert users.equals(users.sort(keys)) and users.columns == list(USER_METRICS)
    assert users.filter(variant="popularity").select("backbone", "seed").unique().rows() == [
        ("", 0)
    ]


ROWS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=8)
LONG = st.lists(st.lists(st.integers(0, 1), min_size=60, max_size=70), min_size=1, max_size=4)


@given(st.one_of(ROWS, LONG))
def test_metrics_of_lists_of_any_lengths_are_those_of_each_alone(rows: list[list[int]]) -> None:
    """Lists too long for a code of 63 bits, too."""
    found = label_metrics(pl.Series(rows, dtype=pl.List(pl.Int8)))
    for row, values in zip(rows, found, strict=True):
        np.testing.assert_allclose(values, ranked_metrics([row])[0], rtol=0, atol=1e-12)


def test_slices_by_class_are_of_test_users_and_the_main_protocol() -> None:
    ranked = {"a": first_hit(1, 2, 3), "b": first_hit(1)}
    rows = pl.concat(
        [
            table(NONE, ranked, protocols=PROTOCOLS),
            table(NONE, {"v": first_hit(1)}, split="valid", protocols=PROTOCOLS),
        ]
    )
    classes = pl.DataFrame({"list": ["a-0", "a-1", "b-0", "v-0"], "class": ["x", "x", "y", "x"]})
    found = user_tables([(NONE, rows)], PROTOCOLS, classes).by_class
    assert found.select("class", "user", "lists").rows() == [("x", "a", 2), ("y", "b", 1)]
    assert found["ndcg@5"].to_list() == pytest.approx([(1 + SECOND) / 2, 1.0])


GOOD = {"a": first_hit(1, 2), "b": first_hit(3)}


def refused(*tables: tuple[Run, pl.DataFrame]) -> str:
    with pytest.raises(RecError) as caught:
        users_of(*tables)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("run", [Run("popularity"), Run("items", "dlcm", 2)])
def test_other_lists_than_elsewhere_are_refused(run: Run) -> None:
    first = (NONE, table(NONE, GOOD))
    absent = refused(first, (run, table(run, {"a": first_hit(1), "b": first_hit(3)})))
    assert absent == (
        f"{run}: list 'a-1' of protocol popularity is missing, which is there in the {NONE}"
    )
    further = refused(first, (run, table(run, GOOD | {"c": first_hit(1)})))
    assert "list 'c-0' of protocol popularity is there, which is missing in the" in further
    assert str(run) in further
    for changed in (
        {"a": first_hit(1, 2), "b": first_hit(3, length=4)},
        {"a": first_hit(1, 2), "b": [[[0, 1, 1]]]},
    ):
        message = refused(first, (run, table(run, changed)))
        assert (
            "list 'b-0' of protocol popularity has another user, split, length or other" in message
        )


def test_run_names_are_readable() -> None:
    assert str(Run("popularity")) == "runs of 'popularity'"
    assert str(NONE) == "runs of 'none', backbone prm, seed 1"


def changed(column: str, value: Any) -> pl.DataFrame:
    rows = table(NONE, GOOD)
    first = pl.int_range(pl.len()) == 0
    new = pl.when(first).then(pl.lit(value, rows.schema[column])).otherwise(pl.col(column))
    return rows.with_columns(new.alias(column))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("variant", "0", "a row has variant '0'"),
        ("backbone", None, "a row has backbone None"),
        ("seed", 2, "a row has seed 2"),
        ("user", None, "a row has no user"),
        ("split", "train", "a row has split 'train'; use valid or test"),
        ("labels", None, "labels of list 'a-0' are None"),
        ("labels", [], "labels of list 'a-0' are []"),
        ("labels", [1, None, 0], "labels of list 'a-0' are [1, None, 0]"),
        ("labels", [1, -1], "labels of list 'a-0' are [1, -1]; they must be one or more"),
        ("list", "a-1", "list 'a-1' of protocol popularity stands twice with sample -1"),
        ("user", "b", "runs of 'none'"),
        ("protocol", "magic", "protocols are magic, popularity; they must be popularity"),
        ("sample", 3, "the lists of user 'a' were not ranked with the same responses"),
    ],
)
def test_broken_rows_are_refused(column: str, value: Any, message: str) -> None:
    if (column, value) == ("user", "b"):  # caught where another run says otherwise
        found = refused((BASE, table(BASE, GOOD)), (NONE, changed(column, value)))
        assert "list 'a-0' of protocol popularity has another user" in found
    else:
        found = refused((NONE, changed(column, value)))
    assert found.startswith(str(NONE)) and message in found


def test_one_list_of_two_users_and_a_single_user_are_refused() -> None:
    twice = pl.concat(
        [table(BASE, {"a": [[[1, 0]]]}), table(BASE, {"a": [[[1, 0]]], "b": [[[1, 0]]]})]
    ).with_columns(list=pl.lit("x"), sample=pl.int_range(3, dtype=pl.Int32))
    twice = twice.filter(pl.col("sample") != 0).with_columns(sample=pl.lit(0, pl.Int32))
    twice = twice.with_columns(sample=pl.int_range(2, dtype=pl.Int32))
    assert "list 'x' has several users, lengths or labels" in refused((BASE, twice))
    assert "1 test users; an interval needs 2" in refused((NONE, table(NONE, {"a": first_hit(1)})))
    assert refused((NONE, table(NONE, {}))) == f"{NONE}: there are no rows"


def test_runs_must_have_the_protocols_that_were_asked_for() -> None:
    with pytest.raises(
        RecError, match="protocols are popularity; they must be popularity, uniform"
    ):
        users_of((NONE, table(NONE, GOOD)), protocols=PROTOCOLS)
