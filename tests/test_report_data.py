"""rec.report_data: the section on the data, by hand."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from rec import cleaning, shown
from rec.config import NEGATIVES
from rec.errors import RecError
from rec.report_data import NEGATIVES as WORDS
from rec.report_data import ORDERED, REASONS, RELATIONS, SPLITS, data_section
from rec.report_grid import Grid
from rec.statistics import SPLITS as ALL_SPLITS
from rec.tables import REJECTS
from tests.described import statistics
from tests.prepared import FILMS as ITEMS
from tests.prepared import PREPARE, prepare_rows, regular
from tests.synthetic_run import rejects_table

SECTION = data_section(statistics(), rejects_table())
NOTHING = pl.DataFrame(schema=dict(REJECTS))


def cells(grid: Grid, name: str, note: str = "") -> list[str]:
    return next(line.cells for line in grid.lines if line.name == name and note in line.note)


def test_counts_by_hand() -> None:
    assert SECTION.counts.columns[1:] == ["Train", "Validation", "Test", "All"]
    assert cells(SECTION.counts, "Users") == ["2", "1", "1", "4"]
    assert cells(SECTION.counts, "Interactions") == ["5", "2", "1", "8"]
    assert cells(SECTION.counts, "Lists without a positive") == ["0", "1", "0", "1"]


def test_facts_by_hand() -> None:
    assert cells(SECTION.facts, "Density") == ["50%"]
    assert cells(SECTION.facts, "Days") == ["1970-01-11 to 1970-02-10"]
    assert cells(SECTION.facts, "Held by the most popular 1%") == ["37.5%"]
    assert cells(SECTION.facts, "Held by the most popular 50%") == ["75%"]
    assert cells(SECTION.facts, "Gini coefficient of items") == ["0.312"]
    assert cells(SECTION.facts, "Lists dropped without a positive") == ["3 of 10 (30%)"]
    assert [line.note for line in SECTION.facts.lines if "1%" in line.name] == [
        "share of interactions; 1 item"
    ]


def test_sizes_by_hand() -> None:
    sizes = cells(SECTION.spreads, "Interactions per user")
    assert sizes == ["1", "1", "2", "2", "3", "2.00"]
    assert cells(SECTION.spreads, "Items per list")[-1] == "2.80"


def test_baseline_by_hand() -> None:
    assert cells(SECTION.baseline, "NDCG@5, by popularity")[1:] == ["–", "1.0000"]
    assert cells(SECTION.baseline, "MAP@5, at random")[2] == ".6111"
    assert cells(SECTION.baseline, "Lists") == ["3", "–", "1"]


def test_each_protocol_has_its_lines() -> None:
    main, further = "negatives by popularity", "uniform negatives, test lists alone"
    assert cells(SECTION.baseline, "NDCG@5, by popularity", main)[2] == "1.0000"
    assert cells(SECTION.baseline, "NDCG@5, by popularity", further) == ["–", "–", ".5000"]
    assert cells(SECTION.baseline, "MAP@5, at random", further)[2] == ".6111"
    one = data_section(statistics() | {"further_protocols": {}}, NOTHING).baseline
    assert [line.name for line in one.lines] == [*ORDERED.values(), "Lists", "Users"]
    assert "negatives" not in "".join(line.note for line in one.lines)


def test_a_further_protocol_without_a_positive_has_no_values() -> None:
    found = data_section(statistics() | {"further_protocols": {"uniform": None}}, NOTHING)
    assert cells(found.baseline, "NDCG@5, by popularity", "uniform") == ["–"] * 3
    assert set(WORDS) == set(NEGATIVES)


def test_what_was_left_out_is_said_in_words() -> None:
    ratings, items, users, lists = SECTION.dropped
    assert ratings.columns == ["Ratings", "Left out", "Share of 31,415 rows read"]
    assert cells(ratings, "Exact duplicates") == ["271", "0.863%"]
    assert items.columns == ["Items", "Left out"]
    assert users.columns[2] == "Share of 11 users"
    assert [line.name for line in users.lines] == [
        "With too few interactions",
        "Left without a list",
    ]
    assert cells(lists, "Some new reason") == ["2"]


def test_nothing_left_out_is_no_table() -> None:
    section = data_section(statistics() | {"dropped": {"users": {"without a list": 0}}}, NOTHING)
    assert (section.dropped, section.rejected) == ([], [])


def test_rejected_rows_by_kind() -> None:
    repeated, outside = SECTION.rejected
    assert repeated.title == "Items: further rows of an item"
    assert repeated.rows == [{"file": "196, 242, 3.csv", "row": 7, "value": None}]
    assert outside.title == "Ratings: ratings out of range"
    assert [row["row"] for row in outside.rows] == [12, 3456]


def test_charts_by_hand() -> None:
    def values(name: str) -> list[list[dict[str, Any]]]:
        return list(SECTION.charts[name]["datasets"].values())

    (ratings,) = values("chart-data-ratings")
    assert ratings[1] == {"begins": "3.5", "range": "3.5", "count": 3}
    (users,) = values("chart-data-users")
    assert users[1] == {"begins": "2", "range": "2 to 3", "count": 3}
    equal, curve = sorted(values("chart-data-popularity"), key=len)
    assert equal == [{"items": 0, "interactions": 0}, {"items": 1, "interactions": 1}]
    assert {"items": 0.5, "interactions": 0.75} in curve


def test_every_reason_has_words() -> None:
    prepared = prepare_rows(regular(), ITEMS, PREPARE)
    reasons = {why for by in prepared.summary["dropped"].values() for why in by}
    known = {*cleaning.NO_FAULT, *shown.REASONS, shown.AGAIN, shown.CUT, *reasons}
    assert known <= set(REASONS)
    assert set(prepared.summary["dropped"]) <= set(RELATIONS)
    assert tuple(SPLITS) == ALL_SPLITS


@pytest.mark.parametrize(
    "key", ["splits", "per_item", "popularity_baseline", "further_protocols", "dropped"]
)
@pytest.mark.parametrize("broken", [None, 3, {}, []])
def test_broken_figures_are_one_error(key: str, broken: Any) -> None:
    if key in ("dropped", "further_protocols") and broken == {}:
        return  # nothing was left out, and there is one protocol
    with pytest.raises(RecError, match=r"stats\.json: not as expected"):
        data_section(statistics() | {key: broken}, NOTHING)
