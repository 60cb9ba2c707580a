"""rec.charts: what each chart shows of variants, policies and distributions."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec.charts import (
    BINS,
    Spec,
    alignment_chart,
    differences_chart,
    intervals,
    shares_chart,
    sides_chart,
    values_chart,
)
from rec.curves import ALIGNMENT_CURVES
from rec.results import rows
from tests.aligned import alignment_table
from tests.synthetic_run import comparison

CURVES = pl.concat(
    alignment_table(number, steps=3).select(pl.lit(policy).alias("policy"), pl.all())
    for number, policy in enumerate(("1", "2", "sft"), start=1)
)


def values(spec: Spec) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec["datasets"][spec["data"]["name"]]
    return found


def test_curves_are_as_they_are_read() -> None:
    assert dict(CURVES.schema) == dict(ALIGNMENT_CURVES)


@pytest.mark.parametrize(
    ("column", "policies"),
    [
        *((column, {"1", "2"}) for column in ("loss", "accuracy", "margin")),
        ("kl", {"1", "2", "sft"}),
    ],
)
def test_fine_tuning_has_no_part_in_what_a_loss_over_pairs_does(
    column: str, policies: set[str]
) -> None:
    spec = alignment_chart(CURVES, column, "Title")
    assert {row["policy"] for row in values(spec)} == policies
    for channel in ("color", "strokeDash"):
        assert spec["encoding"][channel]["field"] == "policy"
        assert spec["encoding"][channel]["title"] == "Policy"
    assert spec["encoding"]["y"]["field"] == column
    third = next(row for row in values(spec) if (row["policy"], row["step"]) == ("2", 3))
    expected = CURVES.filter(policy="2", step=3)[column].item()
    assert third[column] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("figure", "policies"), [("reward", {"1", "2"}), ("log_ratio", {"1", "2", "sft"})]
)
def test_both_sides_of_each_policy(figure: str, policies: set[str]) -> None:
    spec = sides_chart(CURVES, figure, "Title")
    rows = values(spec)
    assert {row["policy"] for row in rows} == policies
    assert len(rows) == 2 * 3 * len(policies)
    for side in ("chosen", "rejected"):
        found = [row[figure] for row in rows if (row["policy"], row["side"]) == ("1", side)]
        assert found == CURVES.filter(policy="1")[f"{side}_{figure}"].to_list()
    assert spec["encoding"]["color"]["field"] == "policy"
    assert spec["encoding"]["strokeDash"]["field"] == "side"


def rows_of(spec: Spec) -> dict[str, dict[str, Any]]:
    """The dots of a chart by variant."""
    return {
        row["variant"]: row
        for data in spec["datasets"].values()
        for row in data
        if "variant" in row
    }


def test_variants_differ_in_kind_and_the_base_is_marked() -> None:
    table = rows(comparison(2, True, told=2), "popularity")
    spec = values_chart(table)
    kinds = {row["variant"]: row["kind"] for row in rows_of(spec).values()}
    assert kinds == {
        "Popularity": "Order",
        "Random order": "Order",
        "No knowledge": "No LLM",
        "Random vectors": "No LLM",
        "Item text only": "No LLM",
        "Another user's history": "No LLM",
        "History text, no LLM": "No LLM",
        "Base LLM": "Base LLM",
        "Fine-tuned on chosen": "Fine-tuned",
        "DPO4Rec, round 1": "DPO4Rec",
        "DPO4Rec, round 2": "DPO4Rec",
        "Best of N (sees labels)": "Upper bound",
    }
    base = next(row for row in table if row.slug == "base")
    assert [{"line": base.ndcg.value}] in spec["datasets"].values()


def test_orders_and_the_base_have_rows_without_a_difference() -> None:
    table = rows(comparison(), "popularity")
    found = rows_of(differences_chart(table))
    assert list(found) == list(rows_of(values_chart(table)))
    empty = [name for name, row in found.items() if row["value"] is None]
    assert empty == ["Popularity", "Random order", "Base LLM"]
    last = next(row for row in table if row.slug == "round_2")
    assert last.vs_base is not None
    assert found["DPO4Rec, round 2"]["high"] == pytest.approx(100 * last.vs_base.high)


def test_intervals_by_hand() -> None:
    assert intervals([]) == [0.0, 1.0]
    assert intervals([3, 3]) == [3, 4]
    assert intervals([50, 99]) == list(range(50, 101, 5))
    assert intervals([-0.01, 0.3])[:2] == [-0.02, 0.0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_every_number_is_in_one_interval(numbers: list[float]) -> None:
    ends = intervals(numbers)
    assert ends[0] <= min(numbers) and max(numbers) < ends[-1] and len(ends) <= BINS + 3
    shares = [row["share"] for row in values(shares_chart({"1": numbers}, ends, "round", "x"))]
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert shares[-1] == 0


def test_no_policy_no_line() -> None:
    assert values(alignment_chart(CURVES.clear(), "loss", "Title")) == []
