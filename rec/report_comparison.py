"""The report's sections on the comparison: a table and charts per protocol, and their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rec import charts
from rec.comparison.names import BEST_SLUG, label, round_number
from rec.comparison.result import SECONDARY, Comparison, Difference, Estimate, Family
from rec.config import BASE_NAME
from rec.report_grid import DASH, Grid, Line, minus
from rec.results import (
    AGAINST,
    Row,
    count,
    heading,
    level,
    main_differences,
    p_value,
    points,
    rows,
)

#: Slices in words.
BY = {
    "history": "{name} histories",
    "popularity": "positives from the {name}",
}
#: What the lists of a protocol are.
LISTS = {
    "popularity": "A list has items that the user went on to rate, of which those they liked "
    "count, and negatives: items that they never rated, the popular ones drawn more often, so that "
    "popularity does not give the others away.",
    "uniform": "The same items of the users, with negatives drawn from all items alike: few of "
    "them are popular, so that popularity gives the others away.",
    "shown": "What the log says that users were shown, in place of drawn negatives.",
}
#: What a variant's re-ranker is told; those that read a text know the items' texts as well.
NOTES = {
    "shown": "the order in which users saw them; no re-ranker",
    "popularity": "what train users took most comes first; no re-ranker",
    "random": "no re-ranker",
    "none": "a re-ranker that reads no text",
    "noise": "a control: noise in place of the texts",
    "items": "the items' texts, nothing of the user",
    "swapped": "a control: what another user rated, as text",
    "history": "what the user rated, as text: the bar for an LLM",
    BASE_NAME: "with what the LLM writes before any alignment",
    "sft": "a control: the LLM trained on chosen texts alone",
    BEST_SLUG: "an upper bound, see below",
}


@dataclass(frozen=True)
class Protocol:
    """The results on one protocol, as the page shows them."""

    name: str
    heading: str
    lists: str
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
        Protocol(
            name,
            heading(comparison, name),
            LISTS.get(name, ""),
            [_result(row) for row in rows(comparison, name)],
        )
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
        "note": _note(row.slug),
        "ndcg": _parts(level(row.ndcg)),
        "map": _parts(level(row.map)),
        "difference": None if row.vs_base is None else _parts(points(row.vs_base)),
        "direction": _direction(row.vs_base) if row.vs_base and significant else "",
        "verdict": row.verdict,
        "p": row.p_text if row.test else DASH,
    }


def _note(slug: str) -> str:
    number = round_number(slug)
    return NOTES[slug] if number is None else f"what the LLM writes after {count(number, 'round')}"


def _parts(text: str) -> list[str]:
    return minus(text).split(" ", maxsplit=1)


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
            minus(points(found.estimate)),
            DASH if relative is None else minus(f"{relative:+.1f}%"),
            DASH if size is None else minus(f"{size:+.2f}"),
            f"{found.users_better:.0%}, {found.users_worse:.0%}",
            minus(" ".join(f"{100 * value:+.2f}" for value in found.by_seed)),
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
    return f"{minus(points(found.estimate))}, p {p_value(found.p_holm)}"


def slices_grid(comparison: Comparison) -> Grid:
    """The differences among some users, and on some lists."""
    slices = comparison.slices
    pairs = list(dict.fromkeys((one.of, one.to) for found in slices for one in found.contrasts))
    lines = []
    for found in slices:
        estimates = {(one.of, one.to): one.estimate for one in found.contrasts}
        cells = [minus(points(estimates[pair])) if pair in estimates else DASH for pair in pairs]
        name = BY[found.by].format(name=found.name)
        note = f"{found.users:,} users, {found.lists:,} lists"
        lines.append(Line(name[0].upper() + name[1:], cells, note))
    return Grid(["Slice", *(_pair(*pair) for pair in pairs)], lines)
