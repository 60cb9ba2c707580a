"""rec.charts: which policies each chart of alignment shows."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from rec.charts import Spec, alignment_chart, sides_chart
from rec.curves import ALIGNMENT_CURVES
from tests.aligned import alignment_table

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


def test_no_policy_no_line() -> None:
    assert values(alignment_chart(CURVES.clear(), "loss", "Title")) == []
