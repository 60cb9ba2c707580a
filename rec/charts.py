"""The charts of the report as Vega-Lite specifications.

They hold no colours of their own: the page sets them for light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from rec.comparison.names import BEST_SLUG, round_number
from rec.comparison.result import Estimate
from rec.config import BASE_NAME, FINE_TUNED, ORDERS
from rec.results import Row

Spec = dict[str, Any]

ROW_HEIGHT = 30
HEIGHT = 220
NAMES = ("round", "policy", "fold", "model", "side")  # columns that are no quantities
SIDES = ("chosen", "rejected")
#: Kinds of variants, which differ in colour and shape.
KINDS = ("Base LLM", "DPO4Rec", "Fine-tuned", "No LLM", "Order", "Upper bound")
BINS = 20
POINTS = 100  # of a difference
EQUAL = 1e-9  # numbers that differ by less, or by less of their size, are not told apart
#: Figures that only a loss over pairs moves on purpose; another loss is on another scale.
OF_PREFERENCE = ("loss", "accuracy", "margin", "reward")


def values_chart(table: list[Row]) -> Spec:
    """NDCG@5 of every variant as a dot with its interval; a dashed line at the base LLM's value."""
    points = [_point(row, row.ndcg, 1) for row in table]
    return _dots(points, "NDCG@5", [row.ndcg.value for row in table if row.slug == BASE_NAME])


def differences_chart(table: list[Row]) -> Spec:
    """Difference of each variant to the base LLM in points; the rows of orders are empty."""
    points = [_point(row, None if row.slug in ORDERS else row.vs_base, POINTS) for row in table]
    return _dots(points, "Points more than the base LLM", [0])


def _point(row: Row, found: Estimate | None, scale: int) -> dict[str, Any]:
    ends = {name: None if found is None else scale * getattr(found, name) for name in _ENDS}
    return {"variant": row.label, "kind": _kind(row.slug), **ends}


def _kind(slug: str) -> str:
    if round_number(slug) is not None:
        return "DPO4Rec"
    named = {BASE_NAME: "Base LLM", BEST_SLUG: "Upper bound", **dict.fromkeys(ORDERS, "Order")}
    return "Fine-tuned" if slug in FINE_TUNED else named.get(slug, "No LLM")


def _dots(points: list[dict[str, Any]], title: str, lines: list[float]) -> Spec:
    """A row per point, with dashed lines at some values. Kinds differ in colour and shape."""
    domain = alt.Scale(domain=list(KINDS))
    rows = alt.Scale(domain=[point["variant"] for point in points])
    axis = alt.Axis(labelLimit=160, ticks=False)
    base = alt.Chart(_inline(points)).encode(
        y=alt.Y("variant:N", sort=None, title=None, axis=axis, scale=rows),
        color=alt.Color("kind:N", legend=None, scale=domain),
        tooltip=["variant:N", *(alt.Tooltip(f"{k}:Q", format=".4f") for k in _ENDS)],
    )
    scale = alt.Scale(zero=False, padding=8)
    interval = base.mark_rule(strokeWidth=2.5).encode(
        x=alt.X("low:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6, titleLimit=260)),
        x2="high:Q",
    )
    shape = alt.Shape("kind:N", legend=None, scale=domain)
    dots = base.mark_point(filled=True, opacity=1, size=90).encode(x="value:Q", shape=shape)
    marked = _inline([{"line": line} for line in lines])
    below = alt.Chart(marked).mark_rule(style="reference").encode(x="line:Q")
    return _finished(alt.layer(below, interval, dots), ROW_HEIGHT * max(len(points), 1))


_ENDS = ("value", "low", "high")


def reward_chart(curves: pl.DataFrame, column: str, title: str) -> Spec:
    """One line per model over the epochs, coloured and dashed by round."""
    lines = _lines(curves, "round", "epoch", "Epoch", column, title, ["fold:N", "model:N"])
    return _finished(lines, HEIGHT)


def alignment_chart(curves: pl.DataFrame, column: str, title: str) -> Spec:
    """One line per policy over the steps of its training.

    A policy that was fine-tuned on chosen texts alone is left out of what `OF_PREFERENCE` names.
    """
    table = _comparable(curves, column)
    return _finished(_lines(table, "policy", "step", "Step", column, title, []), HEIGHT)


def sides_chart(curves: pl.DataFrame, figure: str, title: str) -> Spec:
    """Two lines per policy over the steps: `figure` of chosen and of rejected texts.

    Coloured by policy, dashed by side; 0, where the policy is its reference, is always in sight.
    """
    columns = {f"{side}_{figure}": side for side in SIDES}
    table = (
        _comparable(curves, figure)
        .rename(columns)
        .unpivot(list(SIDES), index=["policy", "step"], variable_name="side", value_name=figure)
    )
    lines = _lines(table, "policy", "step", "Step", figure, title, ["side:N"])
    chart = lines.encode(
        y=alt.Y(f"{figure}:Q", title=title, scale=alt.Scale(zero=True)),
        strokeDash=alt.StrokeDash("side:N", title="Side", legend=_legend()),
    )
    return _finished(chart, HEIGHT)


def _comparable(curves: pl.DataFrame, figure: str) -> pl.DataFrame:
    """The curves without those to which a figure of preference losses means nothing."""
    if figure not in OF_PREFERENCE:
        return curves
    return curves.filter(~pl.col("policy").is_in(FINE_TUNED))


def _lines(
    curves: pl.DataFrame, group: str, x: str, x_title: str, y: str, y_title: str, detail: list[str]
) -> alt.Chart:
    """A line per `group` and `detail`, coloured and dashed by group."""
    columns = [group, x, y, *(name.split(":")[0] for name in detail)]
    values = curves.select(columns).drop_nulls().to_dicts()
    legend = _legend()
    chart: alt.Chart = (
        alt.Chart(_inline(values))
        .mark_line(point=alt.OverlayMarkDef(size=25, filled=True), opacity=0.85)
        .encode(
            x=alt.X(f"{x}:Q", title=x_title, axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y(f"{y}:Q", title=y_title, scale=alt.Scale(zero=False)),
            color=alt.Color(f"{group}:N", title=group.capitalize(), legend=legend),
            strokeDash=alt.StrokeDash(f"{group}:N", title=group.capitalize(), legend=legend),
            detail=detail,
            tooltip=[f"{name}:{'N' if name in NAMES else 'Q'}" for name in columns],
        )
    )
    return chart


def _legend() -> alt.Legend:
    return alt.Legend(orient="top", symbolType="stroke", symbolSize=400, symbolStrokeWidth=2)


def bars_chart(bars: list[dict[str, Any]], x_title: str, y_title: str) -> Spec:
    """A bar per interval of a histogram (from, to, count), named by where it begins."""
    values = [
        {
            "begins": f"{bar['from']:g}" if bar["from"] < 1e6 else f"{bar['from']:,.0f}",
            "range": " to ".join(dict.fromkeys(f"{bar[end]:,.10g}" for end in ("from", "to"))),
            "count": bar["count"],
        }
        for bar in bars
    ]
    axis = alt.Axis(labelAngle=0, labelOverlap=True)
    counts = alt.Axis(labelExpr="format(datum.value, '~s')", tickCount=5, tickMinStep=1)
    tooltip = [
        alt.Tooltip("range:N", title=x_title),
        alt.Tooltip("count:Q", title=y_title, format=","),
    ]
    chart = (
        alt.Chart(_inline(values))
        .mark_bar(style="bars")
        .encode(
            x=alt.X("begins:N", sort=None, title=x_title, axis=axis),
            y=alt.Y("count:Q", title=y_title, axis=counts),
            tooltip=tooltip,
        )
    )
    return _finished(chart, HEIGHT)


def shares_chart(
    values: Mapping[str, Sequence[float]], ends: Sequence[float], of: str, measure: str
) -> Spec:
    """How numbers of several groups are spread: the share of each group in each interval.

    `ends` are those of the intervals (`intervals`), `of` says what the groups are and
    `measure` what the numbers are. Groups differ in colour and dash; one without numbers has no
    line.
    """
    rows = [
        {of: name, "from": begin, "to": end, "share": share}
        for name, numbers in values.items()
        for begin, end, share in _shares(numbers, ends)
    ]
    title, legend = of.capitalize(), _legend()
    chart = (
        alt.Chart(_inline(rows))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("from:Q", title=measure, scale=alt.Scale(zero=False, nice=False)),
            y=alt.Y("share:Q", title="Share of pairs", axis=_percents()),
            color=alt.Color(f"{of}:N", title=title, legend=legend),
            strokeDash=alt.StrokeDash(f"{of}:N", title=title, legend=legend),
            tooltip=[f"{of}:N", "from:Q", "to:Q", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    return _finished(chart, HEIGHT)


def intervals(numbers: Sequence[float]) -> list[float]:
    """The ends of equal intervals of a round width from the lowest number to the highest."""
    if not numbers:
        return [0.0, 1.0]
    low, high = min(numbers), max(numbers)
    differ = high - low > EQUAL * max(1, abs(low), abs(high))
    width = _round_width((high - low) / BINS) if differ else 1.0
    first, last = math.floor(low / width), math.floor(high / width) + 1
    return [round(place * width, 12) for place in range(first, last + 1)]


def _round_width(least: float) -> float:
    """The least of 1, 2, 5, 10, 20 ... (and .1, .2, .5 ...) that is not below `least`."""
    unit = 10.0 ** math.floor(math.log10(least))
    return next(unit * step for step in (1, 2, 5, 10) if unit * step >= least * (1 - 1e-9))


def _shares(numbers: Sequence[float], ends: Sequence[float]) -> list[tuple[float, float, float]]:
    """Each interval with its share, and one of no width with 0, for a line to close."""
    if not numbers:
        return []
    counts, _ = np.histogram(numbers, bins=ends)
    shares = [round(float(count) / len(numbers), 6) for count in counts]
    return [*zip(ends, ends[1:], shares, strict=False), (ends[-1], ends[-1], 0.0)]


def popularity_chart(most_popular: list[dict[str, Any]], items: int) -> Spec:
    """Share of the interactions by share of the `items`, beside items of equal popularity."""
    values = [{"items": 0.0, "interactions": 0.0}] + [
        {"items": entry["items"] / items, "interactions": entry["interactions_share"]}
        for entry in most_popular
    ]
    ends = [{"items": end, "interactions": end} for end in (0, 1)]
    x = alt.X("items:Q", title="Items, most popular first", axis=_percents())
    y = alt.Y("interactions:Q", title="Share of interactions", axis=_percents())
    tooltip = [alt.Tooltip(f"{name}:Q", format=".3~%") for name in ("items", "interactions")]
    equal = alt.Chart(_inline(ends)).mark_line(style="reference").encode(x=x, y=y)
    curve = (
        alt.Chart(_inline(values))
        .mark_line(style="curve", point=alt.OverlayMarkDef(style="dot", size=25, filled=True))
        .encode(x=x, y=y, tooltip=tooltip)
    )
    return _finished(alt.layer(equal, curve), HEIGHT)


def _percents() -> alt.Axis:
    return alt.Axis(format="%", tickCount=5)


def _inline(values: list[dict[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values)


def _finished(chart: alt.Chart | alt.LayerChart | alt.FacetChart, height: int) -> Spec:
    spec: Spec = chart.properties(width="container", height=height).to_dict()
    del spec["$schema"]  # an address; the page names the kind of specification itself
    spec.pop("config", None)
    return spec
