"""The report's sections on what the LLM wrote, how sound that is, and what became a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from rec.charts import SIDES, Spec, intervals, shares_chart
from rec.errors import RecError
from rec.report_grid import DASH, Grid, Line, minus

#: What the figures of `rec.pair_metrics` say that their names do not.
PAIR_NOTES = {
    "users": "whose responses were scored",
    "margin, mean": "chosen − rejected, in the measure",
    "margin, p10": "10th percentile; the others are named alike",
    "length difference, mean": "tokens, chosen − rejected",
    "length difference, mean absolute": "tokens",
    "length difference, chosen longer": "share of pairs; near that of the shorter is best",
    "length difference, correlation with margin": "near 0: larger margins are not longer texts",
    "ties": "pairs with a side whose score another response has",
    "cut spared": "pairs whose worst response was cut off: the next one is in it",
    "dropped, one response": "users without a pair, by reason, as below",
    "dropped, degenerate": "fewer than two responses that do not repeat themselves",
    "dropped, identical": "fewer than two different responses",
    "dropped, length": "no response fits the best one by pairs.length_ratio",
    "dropped, margin": "not above pairs.minimum_margin",
    "dropped, maximum": "beyond pairs.maximum, by margin",
    "dropped pairs, length": "pairs that could not be, by reason, as below",
    "empty responses": "left out",
    "degenerate responses": "repeat themselves; left out unless pairs.degenerate is keep",
}


def _whole(value: Any) -> str:
    return f"{int(value):,}"


def _mean(value: Any) -> str:
    return f"{float(value):,.1f}"


def _share(value: Any) -> str:
    return f"{float(value):.1%}"


#: Figures of `rec.health.sampling_health`: name, how it is written, and a note.
HEALTH: Mapping[str, tuple[str, Callable[[Any], str], str]] = {
    "responses": ("Responses", _whole, ""),
    "users": ("Users", _whole, ""),
    "mean_tokens": ("Tokens per response", _mean, "mean"),
    "cut_off": ("Cut off", _share, "responses whose every slot met its limit"),
    "cut_slots": ("Slots cut off", _mean, "per response; a card has a slot per line"),
    "looping": ("Degenerate", _share, "responses that repeat themselves"),
    "empty": ("Without text", _share, "responses with an empty slot"),
    "repeated": ("Repeated", _whole, "responses that the same user has already"),
}


def sampling_grid(sampling: Mapping[str, Any], speeds: Mapping[str, float | None]) -> Grid:
    """How sound the responses of each policy are; both are by the policy's name.

    Raises RecError where figures are missing.
    """
    lines = []
    for key, (name, text, note) in HEALTH.items():
        try:
            lines.append(Line(name, [text(found[key]) for found in sampling.values()], note))
        except (KeyError, TypeError, ValueError) as error:
            raise RecError(f"figures of sampling: {key} is missing or no number") from error
    known = [speeds.get(policy) for policy in sampling]
    speed = [DASH if number is None else f"{number:,.0f}" for number in known]
    lines.append(Line("Tokens per second", speed, "where they were drawn on this machine"))
    return Grid(["What was written", *sampling], lines)


def pairs_grid(metrics: Mapping[int, Any]) -> Grid:
    """The figures of each round's pairs, those of its held-out pairs beside them."""
    held_out = held_out_figures(metrics)
    columns: dict[str, dict[str, str]] = {}
    for number, figures in metrics.items():
        own = {key: value for key, value in figures.items() if key != "held_out"}
        columns[f"Round {number}"] = dict(_flat(own, ""))
        columns[f"Round {number}, held out"] = dict(_flat(held_out[number], ""))
    keys = list(dict.fromkeys(key for values in columns.values() for key in values))
    cells = {key: [values.get(key, DASH) for values in columns.values()] for key in keys}
    lines = [Line(k[:1].upper() + k[1:], cells[k], PAIR_NOTES.get(k, "")) for k in keys]
    return Grid(["Pairs", *columns], lines)


def held_out_figures(metrics: Mapping[int, Any]) -> dict[int, Any]:
    """The figures of each round's held-out pairs. Raises RecError where there are none."""
    found = {}
    for number, figures in metrics.items():
        try:
            found[number] = figures["held_out"]
            int(found[number]["pairs"])
        except (KeyError, TypeError, ValueError) as error:
            raise RecError(f"pairs of round {number}: no held-out figures ({error!r})") from error
    return found


def _flat(value: Any, name: str) -> list[tuple[str, str]]:
    """Numbers and words of nested mappings by the path to them; what is neither is left out."""
    if isinstance(value, Mapping):
        parts = [(f"{name}, {key}" if name else str(key), part) for key, part in value.items()]
        return [pair for key, part in parts for pair in _flat(part, key.replace("_", " "))]
    if isinstance(value, float):
        text = f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        return [(name, minus(text))]
    if isinstance(value, int) and not isinstance(value, bool):
        return [(name, f"{value:,}")]
    return [(name, value)] if isinstance(value, str) else []


def pairs_charts(pairs: Mapping[int, pl.DataFrame], measure: str) -> dict[str, Spec]:
    """How margins are spread in each round, and in a chart per round the lengths of both sides.

    `pairs` are tables PAIRS; `measure` is what margins are of.
    """
    margins = {str(number): table["margin"].to_list() for number, table in pairs.items()}
    name = f"Margin, {measure}"
    found = {"chart-margins": shares_chart(margins, intervals(_all(margins)), "round", name)}
    lengths = {
        number: {side: table[f"{side}_ids"].list.len().to_list() for side in SIDES}
        for number, table in pairs.items()
    }
    ends = intervals([length for sides in lengths.values() for length in _all(sides)])
    for number, sides in lengths.items():
        found[f"chart-lengths-{number}"] = shares_chart(sides, ends, "side", "Tokens of a response")
    return found


def _all(groups: Mapping[str, Sequence[float]]) -> list[float]:
    return [number for numbers in groups.values() for number in numbers]
