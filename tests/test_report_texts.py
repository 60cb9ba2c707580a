"""rec.report_texts: the health of responses, and what became a pair."""

from __future__ import annotations

from typing import Any

import pytest

from rec.errors import RecError
from rec.report_grid import Grid
from rec.report_texts import PAIR_NOTES, pairs_charts, pairs_grid, sampling_grid
from tests.synthetic_run import health, pair_figures, pairs_table


def cells(grid: Grid, name: str) -> list[str]:
    return next(line.cells for line in grid.lines if line.name == name)


def test_health_by_hand() -> None:
    sampling = {"Base LLM": health(), "Round 1": {**health(), "responses": 1701, "looping": 0.125}}
    grid = sampling_grid(sampling, {"Base LLM": None, "Round 1": 1512.4})
    assert grid.columns == ["What was written", "Base LLM", "Round 1"]
    assert cells(grid, "Responses") == ["700", "1,701"]
    assert cells(grid, "Tokens per response") == ["81.2", "81.2"]
    assert cells(grid, "Cut off") == ["3.0%", "3.0%"]
    assert cells(grid, "Slots cut off") == ["2.5", "2.5"]
    assert cells(grid, "Degenerate") == ["1.0%", "12.5%"]
    assert cells(grid, "Repeated") == ["4", "4"]
    assert cells(grid, "Tokens per second") == ["–", "1,512"]


@pytest.mark.parametrize("broken", [{}, {**health(), "cut_off": "many"}, None])
def test_broken_health_is_an_error(broken: Any) -> None:
    with pytest.raises(RecError, match=r"of sampling: (responses|cut_off) is missing or no"):
        sampling_grid({"Base LLM": broken}, {})


def test_pairs_by_hand() -> None:
    figures = pair_figures(held_out=0)
    grid = pairs_grid({1: pair_figures(), 2: figures})
    assert grid.columns == [
        "Pairs",
        "Round 1",
        "Round 1, held out",
        "Round 2",
        "Round 2, held out",
    ]
    assert cells(grid, "Pairs") == ["8", "3", "8", "0"]
    assert cells(grid, "Margin, median") == ["0.045", "0.02", "0.045", "–"]
    assert cells(grid, "Length difference, chosen longer") == ["1", "1", "1", "–"]
    assert cells(grid, "Dropped, margin") == ["31", "0", "31", "0"]
    assert cells(grid, "Dropped pairs, margin") == ["40", "0", "40", "0"]
    assert cells(grid, "Degenerate responses") == ["5", "0", "5", "0"]


def test_every_note_is_of_a_figure() -> None:
    names = {line.name for line in pairs_grid({1: pair_figures()}).lines}
    assert {note[:1].upper() + note[1:] for note in PAIR_NOTES} <= names


def test_negative_figures_have_a_minus_sign() -> None:
    figures = pair_figures()
    figures["length_difference"]["mean"] = -6.25
    assert cells(pairs_grid({1: figures}), "Length difference, mean")[0] == "−6.25"


def values(spec: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec["datasets"][spec["data"]["name"]]
    return found


def test_margins_and_lengths_are_shares_of_each_group() -> None:
    """Margins .01 to .08 and .01 to .02; chosen texts of 2 to 9 tokens, rejected ones of 1."""
    charts = pairs_charts({1: pairs_table(1), 2: pairs_table(2, 2)}, "NDCG@5")
    assert list(charts) == ["chart-margins", "chart-lengths-1", "chart-lengths-2"]
    margins = values(charts["chart-margins"])
    for number, count in (("1", 8), ("2", 2)):
        found = [row["share"] for row in margins if row["round"] == number]
        assert sum(found) == pytest.approx(1)
        assert sorted(set(found)) == [0, 1 / count]
    first = values(charts["chart-lengths-1"])
    rejected = [row for row in first if row["side"] == "rejected" and row["share"]]
    assert [(row["from"], row["share"]) for row in rejected] == [(1, 1)]
    ends = [{row["from"] for row in values(charts[f"chart-lengths-{number}"])} for number in (1, 2)]
    assert ends[0] == ends[1]


def test_no_round_no_lengths() -> None:
    charts = pairs_charts({}, "NDCG@5")
    assert list(charts) == ["chart-margins"] and values(charts["chart-margins"]) == []
