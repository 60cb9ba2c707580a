"""The report's sections on the comparison: a table and charts per protocol, and their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rec import charts
from rec.comparison.names import label
from rec.comparison.result import SECONDARY, Comparison, Difference, Estimate, Family
from rec.report_grid import DASH, Grid, Line
from rec.results import AGAINST, Row, heading, level, main_differences, p_value, points, rows

#: Slices in words.
BY = {
    "history": "{name} histories",
    "popularity": "positives from the {name}",
}


@dataclass(frozen=True)
class Protocol:
    """The results on one protocol, as the page shows them."""

    name: str
    heading: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Tile:
    """One finding in a few characters, for the top of the page."""

    name: str
    value: str
    interval: str
    verdict: str
    direction: str  # "better", "worse" or ""


def protocol_sections(comparison: Comparison) -> list[Protocol]:
    """The results table of each protocol, the main one first."""
    return [
        Protocol(name, heading(comparison, name), [_result(row) for row in rows(comparison, name)])
        for name in comparison.protocols
    ]


def tiles(comparison: Comparison) -> list[Tile]:
    """The differences that the summary speaks of."""
    return [_tile(found) for found in main_differences(comparison)]


def _tile(found: Difference) -> Tile:
    value, interval = _parts(points(found.estimate))
    return Tile(
        name=f"{label(found.of)}, against {AGAINST[found.to]}",
        value=value,
        interval=interval,
        verdict=f"{found.verdict}, p {p_value(found.p_holm)}",
        direction=_direction(found.estimate) if found.significant else "",
    )


def protocol_charts(comparison: Comparison) -> dict[str, charts.Spec]:
    """The charts of each protocol by their places: values, and differences to the base LLM."""
    found: dict[str, charts.Spec] = {}
    for name in comparison.protocols:
        table = rows(comparison, name)
        found[f"chart-values-{name}"] = charts.values_chart(table)
        found[f"chart-differences-{name}"] = charts.differences_chart(table)
    return found


def _result(row: Row) -> dict[str, Any]:
    significant = row.test is not None and row.test.significant
    return {
        "label": row.label,
        "ndcg": _parts(level(row.ndcg)),
        "map": _parts(level(row.map)),
        "difference": None if row.vs_base is None else _parts(points(row.vs_base)),
        "direction": _direction(row.vs_base) if row.vs_base and significant else "",
        "verdict": row.verdict,
        "p": row.p_text if row.test else DASH,
    }


def _parts(text: str) -> list[str]:
    return _minus(text).split(" ", maxsplit=1)


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _direction(estimate: Estimate) -> str:
    return "better" if estimate.value > 0 else "worse"


def _pair(of: str, to: str) -> str:
    return f"{label(of)} − {label(to)}"


def comparisons_grid(family: Family) -> Grid:
    """The comparisons of a family with all that is known of each."""
    columns = ["Comparison", "Difference", "Relative", "d_z", "Users better, worse", "By seed", "p"]
    return Grid(columns, [_line(found) for found in family.comparisons])


def _line(found: Difference) -> Line:
    relative, size = found.relative_percent, found.effect_size
    return Line(
        _pair(found.of, found.to),
        [
            _minus(points(found.estimate)),
            DASH if relative is None else _minus(f"{relative:+.1f}%"),
            DASH if size is None else _minus(f"{size:+.2f}"),
            f"{found.users_better:.0%}, {found.users_worse:.0%}",
            _minus(" ".join(f"{100 * value:+.2f}" for value in found.by_seed)),
            f"{p_value(found.p)}, corrected {p_value(found.p_holm)}, {found.verdict}",
        ],
    )


def secondary_grid(comparison: Comparison) -> Grid:
    """The differences of every secondary family, a line each."""
    pairs = [(found.of, found.to) for found in comparison.primary.comparisons]
    families = [family for family in comparison.families if family.kind == SECONDARY]
    lines = [
        Line(
            ", ".join([family.protocol, family.measure.upper(), family.backbone or "all"]),
            [_short(family.comparison(*pair)) for pair in pairs],
        )
        for family in families
    ]
    return Grid(["Family", *(_pair(*pair) for pair in pairs)], lines)


def _short(found: Difference | None) -> str:
    if found is None:
        return DASH
    return f"{_minus(points(found.estimate))}, p {p_value(found.p_holm)}"


def slices_grid(comparison: Comparison) -> Grid:
    """The differences among some users, and on some lists."""
    slices = comparison.slices
    pairs = list(dict.fromkeys((one.of, one.to) for found in slices for one in found.contrasts))
    lines = []
    for found in slices:
        estimates = {(one.of, one.to): one.estimate for one in found.contrasts}
        cells = [_minus(points(estimates[pair])) if pair in estimates else DASH for pair in pairs]
        name = BY[found.by].format(name=found.name)
        note = f"{found.users:,} users, {found.lists:,} lists"
        lines.append(Line(name[0].upper() + name[1:], cells, note))
    return Grid(["Slice", *(_pair(*pair) for pair in pairs)], lines)
