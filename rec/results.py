"""metrics.json in words: the rows of the results table, the table as text, the summary sentence."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

import polars as pl

from rec.errors import RecError
from rec.evaluation import Metrics

COUNTS = ("test_users", "test_lists", "seeds", "bootstrap")
WIDTH = 100  # columns of a terminal
LABELS = {
    "shown": "As shown",
    "popularity": "Popularity",
    "none": "No knowledge",
    "items": "Item text only",
    "history": "History text, no LLM",
    "base": "Base LLM (KAR)",
}


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    @property
    def verdict(self) -> str:
        """`significant` as words."""
        return "significant" if self.significant else "not significant"


@dataclass(frozen=True)
class Row:
    """One variant of the results table."""

    slug: str
    label: str
    ndcg: Estimate
    map: Estimate
    vs_base: Estimate | None  # None for the base LLM itself
    vs_none: Estimate | None  # None for variants without an LLM
    mrr: float | None  # None for variants without text of an LLM
    median_rank: float | None

    @property
    def mrr_text(self) -> str:
        """The MRR, or a dash."""
        return "-" if self.mrr is None else f"{self.mrr:.4f}"

    @property
    def rank_text(self) -> str:
        """The median rank, or a dash."""
        return "-" if self.median_rank is None else f"{self.median_rank:,.1f}".removesuffix(".0")


def label(slug: str) -> str:
    """What a reader sees for a variant's name in metrics.json; RecError where it is none."""
    if slug in LABELS:
        return LABELS[slug]
    number = slug.removeprefix("round_")
    if number == slug or not number.isdigit():
        raise RecError(f"metrics: {slug!r} is not the name of a variant")
    return f"DPO4Rec, round {number}"


def rows(metrics: Metrics) -> list[Row]:
    """The rows of the results table in the order of metrics.json.

    Raises RecError where `metrics` is not what `rec.evaluation.evaluate` returns.
    """
    try:
        for name in (*COUNTS, "identifiability", "none", "base"):
            metrics[name]
        names = [name for name in metrics if name in LABELS or name.startswith("round_")]
        return [_row(name, metrics) for name in names]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecError(f"metrics: not the metrics of this project ({error!r})") from error


def _row(name: str, metrics: Metrics) -> Row:
    values = metrics[name]

    def estimate(key: str) -> Estimate:
        return Estimate(*(float(values[key + end]) for end in ("", "_low", "_high")))

    text = metrics["identifiability"].get(name)
    return Row(
        slug=name,
        label=label(name),
        ndcg=estimate("ndcg@5"),
        map=estimate("map@5"),
        vs_base=None if name == "base" else estimate("ndcg@5_vs_base"),
        vs_none=estimate("ndcg@5_vs_none") if "ndcg@5_vs_none" in values else None,
        mrr=None if text is None else float(text["mrr"]),
        median_rank=None if text is None else float(text["median_rank"]),
    )


def points(estimate: Estimate) -> str:
    """A difference in points (x100) with its interval: `+0.96 [+0.72, +1.20]`."""
    value, low, high = _signed(estimate)
    return f"{value} [{low}, {high}]"


def level(estimate: Estimate) -> str:
    """A metric with its interval: `.7973 [.7901, .8044]`."""
    value, low, high = (f"{number:.4f}".removeprefix("0") for number in _numbers(estimate))
    return f"{value} [{low}, {high}]"


def _numbers(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _signed(estimate: Estimate) -> list[str]:
    return [f"{round(number * 100, 2) + 0.0:+.2f}" for number in _numbers(estimate)]


def basis(metrics: Metrics) -> list[str]:
    """What the numbers rest on, as sentences for below the table."""
    chance = metrics.get("identifiability", {}).get("chance", {}).get("mrr")
    lines = [
        f"{metrics['test_users']} test users, {metrics['test_lists']} lists, "
        f"{metrics['seeds']} seeds; per user the mean over lists, then over seeds.",
        f"Low and high: the 95% bootstrap interval over users ({metrics['bootstrap']} resamples), "
        "not corrected for the number of variants.",
        "Differences are paired by user, in NDCG@5 points (x100); "
        "significant: the interval excludes 0.",
    ]
    if chance is not None:
        lines.append(
            "Identifiability: where a text's own user stands among all users by likeness to "
            f"their histories; chance MRR {chance:.4f}."
        )
    return lines


def text_table(metrics: Metrics) -> str:
    """The results table as plain text, made for 100 columns."""
    table = rows(metrics)
    main = [["Variant", "NDCG@5 [low high]", "MAP@5 [low high]", "Difference to base LLM", ""]]
    texts = [["Variant", "Identifiability: MRR", "median rank"]]
    for row in table:
        cells = [
            level(row.ndcg),
            level(row.map),
            "-" if row.vs_base is None else points(row.vs_base),
        ]
        verdict = "" if row.vs_base is None else row.vs_base.verdict
        main.append([row.label, *(cell.replace(",", "") for cell in cells), verdict])
        texts.append([row.label, row.mrr_text, row.rank_text])
    lines = [line for sentence in basis(metrics) for line in wrap(sentence, WIDTH)]
    return "\n".join([*_aligned(main), "", *_aligned(texts), "", *lines])


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    gaps = 2 if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else 1
    lines = [
        (" " * gaps).join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in table
    ]
    rule = "-" * max(len(line.rstrip()) for line in lines)
    return [lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:])]


def summary(metrics: Metrics) -> str:
    """One sentence: does the LLM of the last round differ from the base LLM and from nothing?

    Without a round it speaks of the base LLM against no knowledge alone.
    """
    last = rows(metrics)[-1]
    users = metrics["test_users"]
    if last.vs_none is None:
        raise RecError("metrics: no variant with an LLM; there is nothing to sum up")
    none = f"from no knowledge by {_difference(last.vs_none)}"
    if last.vs_base is None:
        return f"Over {users} test users, the base LLM differs {none}."
    count = int(last.slug.removeprefix("round_"))
    return (
        f"Over {users} test users, the LLM after {count} round{'s' if count > 1 else ''} of DPO "
        f"differs from the base LLM by {_difference(last.vs_base)} and {none}."
    )


def _difference(estimate: Estimate) -> str:
    value, low, high = _signed(estimate)
    return f"{value} NDCG@5 points (95% interval {low} to {high}: {estimate.verdict})"


def results_plot(metrics: Metrics) -> pl.DataFrame:
    """NDCG@5 of each variant for `dvc plots`: variant, value, low, high."""
    return pl.DataFrame(
        [[row.label, *_numbers(row.ndcg)] for row in rows(metrics)],
        schema={"variant": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64},
        orient="row",
    )
