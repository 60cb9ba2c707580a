"""The report's section on all metrics: means at every scope, a table per protocol."""

from __future__ import annotations

from typing import Any

from rec.comparison.names import label
from rec.comparison.result import Comparison
from rec.errors import RecError
from rec.report_grid import Grid, Group, Line
from rec.rerank.metrics import SCOPES
from rec.results import decimal, heading

#: The columns of each scope: names in front of "@k" in figures.json, and for readers.
MEASURES = {"ndcg": "NDCG", "map": "MAP", "hit_rate": "Hit rate"}
#: Those of one scope alone.
ALONE = {5: {"map_kar": "KAR's MAP", "click": "Clicks"}}


def metric_grids(comparison: Comparison, figures: Any) -> dict[str, Grid]:
    """By heading of a protocol, the means of `rec.comparison.figures.figures`, a line per variant.

    Raises RecError where the figures lack one.
    """
    try:
        return {
            heading(comparison, name): _grid(comparison.variants, figures[name])
            for name in comparison.protocols
        }
    except (KeyError, TypeError, ValueError) as error:
        raise RecError(f"figures: no mean of every metric ({error!r}); run evaluate") from error


def _grid(variants: list[str], values: Any) -> Grid:
    columns = {k: MEASURES | ALONE.get(k, {}) for k in SCOPES}
    names = [f"{name}@{k}" for k, shown in columns.items() for name in shown]
    return Grid(
        ["Variant", *(f"{name}@{k}" for k, shown in columns.items() for name in shown.values())],
        [
            Line(label(variant), [decimal(float(values[variant][name])) for name in names])
            for variant in variants
        ],
        [Group(f"@{k}", list(shown.values())) for k, shown in columns.items()],
    )
