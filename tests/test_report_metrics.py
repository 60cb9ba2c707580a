"""rec.report_metrics: the section on all metrics."""

from __future__ import annotations

from typing import Any

import pytest
from markupsafe import escape

from rec.errors import RecError
from rec.report_metrics import metric_grids
from rec.rerank.metrics import SCOPES
from tests.reported import good, make_run
from tests.synthetic_run import comparison

MAIN = "Negatives by popularity (main)"
OTHER = "Uniform negatives, the paper's protocol (secondary)"
HEADINGS = ["NDCG@3", "MAP@10", "Hit rate@1", "KAR's MAP@5", "Clicks@5"]


def test_every_protocol_has_a_grid_with_a_line_per_variant() -> None:
    run = make_run()
    grids = metric_grids(run.comparison, run.figures)
    assert list(grids) == [MAIN, OTHER]
    names = [line.name for line in grids[OTHER].lines]
    assert names[:3] == ["Popularity", "Random order", "No knowledge"]
    assert len(names) == len(run.comparison.variants)


def test_a_scope_is_a_group_of_columns() -> None:
    run = make_run()
    grid = metric_grids(run.comparison, run.figures)[MAIN]
    assert [group.heading for group in grid.groups] == [f"@{k}" for k in SCOPES]
    under = [f"{name}{group.heading}" for group in grid.groups for name in group.columns]
    assert grid.columns == ["Variant", *under]
    assert grid.groups[2].columns == ["NDCG", "MAP", "Hit rate", "KAR's MAP", "Clicks"]
    assert set(HEADINGS) < set(under)
    assert {len(line.cells) for line in grid.lines} == {len(under)}


def test_cells_are_the_values_of_the_figures() -> None:
    compared = comparison(0)
    keys = [
        f"{name}@{k}" for name in ("ndcg", "map", "map_kar", "hit_rate", "click") for k in SCOPES
    ]
    values = {
        variant: {key: row + column / 100 for column, key in enumerate(keys)}
        for row, variant in enumerate(compared.variants)
    }
    swapped = {v: {key: value + 0.005 for key, value in of.items()} for v, of in values.items()}
    grids = metric_grids(compared, {"popularity": values, "uniform": swapped})

    def shown(heading: str, row: int) -> dict[str, str]:
        grid = grids[heading]
        return dict(zip(grid.columns[1:], grid.lines[row].cells, strict=True))

    assert [shown(MAIN, 0)[name] for name in HEADINGS] == [
        ".0100",
        ".0900",
        ".1500",
        ".1200",
        ".2200",
    ]
    assert [shown(OTHER, 2)[name] for name in HEADINGS[:2]] == ["2.0150", "2.0950"]


def test_the_page_shows_them_after_the_results() -> None:
    html, page = good()
    section = html.split('<section id="metrics"')[1].split("</section>")[0]
    assert section.count('scope="colgroup"') == 2 * len(SCOPES)
    assert section.count("<colgroup span=") == 2 * len(SCOPES)
    figures = make_run().figures["uniform"]["round_1"]["hit_rate@3"]
    assert f'data-column="Hit rate@3">{figures:.4f}'.replace(">0", ">") in section
    assert section.count("<h3>") == 1
    assert f"<summary>All metrics: {escape(OTHER)}</summary>" in section
    words = " ".join(page.text.split())
    assert (
        "KAR's MAP@k, as KAR's code has it: divided by the liked items among the first k" in words
    )
    assert page.ids.index("results") < page.ids.index("metrics") < page.ids.index("mediation")


@pytest.mark.parametrize("broken", [{}, {"popularity": {}}, {"popularity": 4}, [1], None])
def test_broken_figures_are_refused(broken: Any) -> None:
    with pytest.raises(RecError, match="figures: no mean of every metric"):
        metric_grids(comparison(), broken)


@pytest.mark.parametrize("key", ["map_kar@5", "ndcg@10"])
def test_figures_without_a_metric_are_refused(key: str) -> None:
    run = make_run()
    values = {name: dict(of) for name, of in run.figures["uniform"].items()}
    del values["base"][key]
    with pytest.raises(RecError, match=key):
        metric_grids(run.comparison, {**run.figures, "uniform": values})
