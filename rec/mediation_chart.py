"""The chain of mediation as one figure: a row per link, a dot with its interval per round.

Links have different units, so that each row has a scale of its own on which the null value is 0
and the far end of the widest interval is 1 (or -1): what counts is on which side of the null line
an interval lies. The numbers stand in the tooltip and in the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from rec.mediation.links import (
    BEST_OF_N,
    ENCODER,
    FRESH_REWARD,
    IDENTIFIABILITY,
    RELIABILITY,
    RETOLD,
    SENSITIVITY,
    STEPS,
    TEST,
    VALIDATION,
    Link,
)
from rec.report_grid import minus

Spec = dict[str, Any]

ROW_HEIGHT = 44
#: What a link is called on the axis, which is narrow on a phone.
SHORT = {
    IDENTIFIABILITY: "Identifiability",
    ENCODER: "Encoder",
    SENSITIVITY: "Sensitivity",
    RELIABILITY: "Reliability",
    BEST_OF_N: "Best of N",
    FRESH_REWARD: "Fresh reward",
    RETOLD: "Same re-ranker",
    VALIDATION: "Validation",
    TEST: "Test",
}
Rounds = Mapping[int, Sequence[Link]]  # the links of each round


def mediation_chart(rounds: Rounds) -> Spec:
    """The links that decide about their steps, in the order of the chain.

    Rounds differ in colour, in shape and in their place within a row.
    """
    values = chart_values(rounds)
    y = alt.Y(
        "link:N",
        sort=[name for name in SHORT.values() if any(v["link"] == name for v in values)],
        title=None,
        axis=alt.Axis(labelLimit=160),
    )
    legend = alt.Legend(orient="top", symbolSize=90)
    color = alt.Color("round:N", title="Round", legend=legend)
    offset = alt.YOffset("round:N", sort=sorted(rounds))
    scale = alt.Scale(domain=[-1.05, 1.05])
    axis = alt.Axis(values=[0], labelExpr="'null value'", ticks=False, grid=False)
    x = alt.X("low:Q", title="below its null value | above it", scale=scale, axis=axis)
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("meaning", "round", "figure", "null", "users")]
    data = alt.InlineData(values)
    base = alt.Chart(data).encode(y=y, yOffset=offset, tooltip=tooltip)
    interval = base.mark_rule(strokeWidth=2.5).encode(
        x=x, x2="high:Q", stroke=alt.Stroke("round:N", legend=None)
    )
    dots = base.mark_point(filled=True, opacity=1, size=90).encode(
        x="value:Q", color=color, shape=alt.Shape("round:N", title="Round", legend=legend)
    )
    zero = alt.Chart(alt.InlineData([{"zero": 0}])).mark_rule(style="reference").encode(x="zero:Q")
    rows = len({value["link"] for value in values})
    chart = alt.layer(zero, interval, dots).properties(
        width="container", height=ROW_HEIGHT * max(rows, 1)
    )
    spec: Spec = chart.to_dict()
    del spec["$schema"]  # an address; the page names the kind of specification itself
    spec.pop("config", None)
    return spec


def chart_values(rounds: Rounds) -> list[dict[str, Any]]:
    """What is drawn: value and interval on the scale of their row, and the figures as text."""
    shown = [
        (number, one)
        for step in STEPS
        for number in sorted(rounds)
        for one in rounds[number]
        if one.chain and one.step == step and one.value is not None
    ]
    widest: dict[str, float] = {}
    for _, one in shown:
        reach = max(abs(end - one.null) for end in _ends(one))
        widest[one.step] = max(widest.get(one.step, 0.0), reach)

    def place(one: Link, end: float) -> float:
        return round((end - one.null) / widest[one.step], 4) if widest[one.step] > 0 else 0.0

    return [
        {
            "link": SHORT[one.step],
            "meaning": STEPS[one.step],
            "round": number,
            **{
                name: place(one, end)
                for name, end in zip(("value", "low", "high"), _ends(one), strict=True)
            },
            "figure": f"{figure(one)} {one.unit}",
            "null": number_text(one.null, one.unit),
            "users": one.users,
        }
        for number, one in shown
    ]


def _ends(one: Link) -> tuple[float, float, float]:
    assert one.value is not None and one.low is not None and one.high is not None
    return one.value, one.low, one.high


def figure(one: Link) -> str:
    """A link's value with its interval: `+0.12 [−0.03, +0.27]`, `.021 [−.010, .052]`, or a dash."""
    if one.value is None:
        return "–"
    value, low, high = (number_text(number, one.unit) for number in _ends(one))
    return f"{value} [{low}, {high}]"


def number_text(number: float, unit: str) -> str:
    """A number in its unit: points with a sign and two digits, anything else with three digits."""
    if unit.endswith("points"):
        return minus(f"{round(number, 2) + 0.0:+.2f}")
    text = minus(f"{round(number, 3) + 0.0:.3f}")
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text
