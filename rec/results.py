"""The comparison in words: the rows of the results tables, the tables as text, the summary."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import polars as pl

from rec.comparison.names import BEST_SLUG, label, last_round, round_number
from rec.comparison.power import SHARE
from rec.comparison.result import Comparison, Difference, Estimate
from rec.comparison.significance import LEVEL
from rec.config import BASE_NAME
from rec.errors import RecError

WIDTH = 100  # columns of a terminal
NDCG, MAP = "ndcg@5", "map@5"
#: What the summary compares with.
AGAINST = {
    BASE_NAME: "the base LLM",
    "history": "history text without an LLM",
    "none": "no knowledge",
}
#: How the lists were made, as headings.
PROTOCOLS = {
    "popularity": "Negatives by popularity",
    "uniform": "Uniform negatives, the paper's protocol",
    "shown": "Lists as users were shown them",
}


@dataclass(frozen=True)
class Row:
    """One variant of a results table."""

    slug: str
    label: str
    ndcg: Estimate
    map: Estimate
    vs_base: Estimate | None  # None for the base LLM itself
    test: Difference | None  # the comparison with the base LLM; None where it is not tested

    @property
    def p_text(self) -> str:
        """The corrected p-value, or a dash."""
        return "-" if self.test is None else p_value(self.test.p_holm)

    @property
    def verdict(self) -> str:
        """Whether the difference is significant, "" where it is not tested."""
        return "" if self.test is None else self.test.verdict


@dataclass(frozen=True)
class Text:
    """How well a variant's texts tell users apart, and whether the encoder read them whole."""

    label: str
    mrr: float
    median_rank: float
    cut: float  # the share of texts whose end the encoder did not read

    @property
    def mrr_text(self) -> str:
        """The MRR to four digits."""
        return f"{self.mrr:.4f}"

    @property
    def rank_text(self) -> str:
        """The median rank, without a decimal that is 0."""
        return f"{self.median_rank:,.1f}".removesuffix(".0")

    @property
    def cut_text(self) -> str:
        """The share of texts that were cut, in percent."""
        return f"{self.cut:.1%}"


def heading(comparison: Comparison, protocol: str) -> str:
    """The heading of a protocol's table."""
    name = PROTOCOLS.get(protocol, protocol)
    if len(comparison.protocols) == 1:
        return name
    return f"{name} ({'main' if protocol == comparison.protocols[0] else 'secondary'})"


def rows(comparison: Comparison, protocol: str) -> list[Row]:
    """The rows of a protocol's results table, averaged over backbones, in the variants' order."""
    ndcg, precision = comparison.family(protocol, NDCG), comparison.family(protocol, MAP)
    try:
        return [
            Row(
                slug=name,
                label=label(name),
                ndcg=ndcg.values[name],
                map=precision.values[name],
                vs_base=None if name == BASE_NAME else ndcg.to_base[name],
                test=ndcg.comparison(name, BASE_NAME) or ndcg.comparison(BASE_NAME, name),
            )
            for name in comparison.variants
        ]
    except KeyError as error:
        raise RecError(f"comparison: protocol {protocol} has no value of {error}") from error


def texts(figures: Any) -> dict[str, Text]:
    """By slug, how well texts tell users apart, from `rec.comparison.figures.figures`."""
    try:
        return {
            name: Text(label(name), *(float(found[key]) for key in ("mrr", "median_rank", "cut")))
            for name, found in figures["identifiability"].items()
            if name != "chance"
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecError(f"figures: not the figures of a run ({error!r})") from error


def points(estimate: Estimate) -> str:
    """A difference in points (x100) with its interval: `+0.96 [+0.72, +1.20]`."""
    value, low, high = _signed(estimate)
    return f"{value} [{low}, {high}]"


def level(estimate: Estimate) -> str:
    """A metric with its interval: `.7973 [.7901, .8044]`."""
    value, low, high = map(decimal, _numbers(estimate))
    return f"{value} [{low}, {high}]"


def decimal(value: float) -> str:
    """A metric to four digits: `.7973`."""
    return f"{value:.4f}".removeprefix("0")


def p_value(value: float) -> str:
    """A p-value to three digits: `0.012`, `<0.001`."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _numbers(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _signed(estimate: Estimate) -> list[str]:
    return [f"{round(number * 100, 2) + 0.0:+.2f}" for number in _numbers(estimate)]


def count(number: int, word: str) -> str:
    """A number and its word, in the plural where it is not one: `1 seed`, `5 seeds`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def basis(comparison: Comparison) -> list[str]:
    """What the numbers rest on, as sentences for below the tables."""
    compared = len(comparison.primary.comparisons)
    lines = [
        f"{count(comparison.test_users, 'test user')}, {count(comparison.test_lists, 'list')}, "
        f"{count(len(comparison.seeds), 'seed')}, {_backbones(comparison)}; per user the mean over "
        "lists and responses, then over seeds and re-rankers.",
        "Low and high: the 95% bootstrap interval over users and seeds "
        f"({comparison.bootstrap} resamples). Differences are paired, in NDCG@5 points (x100).",
        f"p: the larger of a sign-flip test over users ({comparison.permutations} permutations) "
        "and a t-test over users and seeds, after Holm's "
        f"correction for the {count(compared, 'comparison')} of a protocol; a dash: not tested. "
        "Significant: p is at most 0.05 and the interval excludes 0.",
    ]
    if BEST_SLUG in comparison.variants:
        lines.append(
            f"{label(BEST_SLUG)}: an upper bound and no method. Of the base LLM's responses it "
            "takes the one that proves best on the very lists that it is judged by."
        )
    return lines


def _backbones(comparison: Comparison) -> str:
    return f"re-ranker{'s' * (len(comparison.backbones) > 1)} {', '.join(comparison.backbones)}"


def text_tables(comparison: Comparison, figures: Any) -> str:
    """The results tables as plain text, made for 100 columns."""
    blocks = [_protocol_table(comparison, protocol) for protocol in comparison.protocols]
    blocks += [_comparisons_table(comparison), _texts_table(figures)]
    lines = [line for sentence in basis(comparison) for line in wrap(sentence, WIDTH)]
    return "\n\n".join(["\n".join(block) for block in [*blocks, lines] if block])


def _protocol_table(comparison: Comparison, protocol: str) -> list[str]:
    table = [["Variant", "NDCG@5 [low high]", "MAP@5", "Difference to base", "p", "Significant"]]
    for row in rows(comparison, protocol):
        vs_base = "-" if row.vs_base is None else points(row.vs_base)
        verdict = "-" if row.test is None else "yes" if row.test.significant else "no"
        cells = [level(row.ndcg), decimal(row.map.value), vs_base, row.p_text, verdict]
        table.append([row.label, *(cell.replace(",", "") for cell in cells)])
    return [heading(comparison, protocol), *_aligned(table)]


def _comparisons_table(comparison: Comparison) -> list[str]:
    table = [["Compared", "with", "Points [low high]", "%", "d_z", "Better", "Worse", "p"]]
    for found in comparison.primary.comparisons:
        relative, size = found.relative_percent, found.effect_size
        table.append(
            [
                label(found.of),
                label(found.to),
                points(found.estimate).replace(",", ""),
                "-" if relative is None else f"{relative:+.1f}",
                "-" if size is None else f"{size:+.2f}",
                f"{found.users_better:.0%}",
                f"{found.users_worse:.0%}",
                p_value(found.p_holm),
            ]
        )
    return ["Comparisons by NDCG@5 (primary); better and worse: shares of users", *_aligned(table)]


def _texts_table(figures: Any) -> list[str]:
    found = texts(figures)
    if not found:
        return []
    chance = figures["identifiability"]["chance"]["mrr"]
    title = "Identifiability: where a text's own user stands among all by likeness to histories"
    table = [["Texts of", "MRR", "Median rank"]]
    table += [[text.label, text.mrr_text, text.rank_text] for text in found.values()]
    return [title, *_aligned([*table, ["Chance", f"{chance:.4f}", "-"]])]


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    gaps = 2 if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else 1
    lines = [
        (" " * gaps).join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in table
    ]
    rule = "-" * max(len(line.rstrip()) for line in lines)
    return [lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:])]


def summary(comparison: Comparison) -> str:
    """What the primary family says: the last round against the base LLM, the bar, and nothing.

    Without a round it speaks of the base LLM. Where the first difference is not significant it
    says what the users can detect.
    """
    differences = main_differences(comparison)
    sentences = "; ".join(map(_against, differences))
    return (
        f"Over {count(comparison.test_users, 'test user')}, "
        f"{count(len(comparison.seeds), 'seed')} and {_backbones(comparison)}, on "
        f"{_protocol(comparison)}, {_name(differences[0].of)} differs in NDCG@5 {sentences}."
        f"{_power_note(comparison, differences[0])}"
    )


def main_differences(comparison: Comparison) -> list[Difference]:
    """The last round, or without one the base LLM, against the base LLM, the bar, and nothing.

    Those that were compared, at least one. Raises RecError where none was.
    """
    last = last_round(comparison.variants)
    subject = BASE_NAME if last is None else last
    wanted = [(subject, name) for name in AGAINST if name != subject]
    found = [comparison.primary.comparison(*pair) for pair in wanted]
    differences = [d for d in found if d is not None]
    if not differences:
        raise RecError("comparison: nothing is compared with an LLM; there is nothing to sum up")
    return differences


def _protocol(comparison: Comparison) -> str:
    return {
        "popularity": "lists with negatives by popularity",
        "uniform": "lists with uniform negatives",
        "shown": "lists as users were shown them",
    }.get(comparison.protocols[0], comparison.protocols[0])


def _name(slug: str) -> str:
    if slug == BASE_NAME:
        return "the base LLM"
    return f"the LLM after {count(round_number(slug) or 0, 'round')} of DPO"


def _against(found: Difference) -> str:
    value, low, high = _signed(found.estimate)
    p = p_value(found.p_holm)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    return (
        f"from {AGAINST[found.to]} by {value} points (95% interval {low} to {high}, "
        f"Holm-corrected {p}: {found.verdict})"
    )


def _power_note(comparison: Comparison, first: Difference) -> str:
    power = comparison.power
    if power is None or first.significant or (power.of, power.to) != (first.of, first.to):
        return ""
    number, seeds = len(comparison.primary.comparisons), count(power.seeds, "seed")
    found = "no difference"
    wanted = f"no number of users is enough with {seeds}: seeds are what is short"
    if power.detectable is not None:
        found = f"a difference of {100 * power.detectable:.2f} points or more"
    if power.users_needed is not None:
        wanted = f"it takes {count(power.users_needed, 'user')} with {seeds}"
    return (
        f" By the spread that was seen, {count(power.users, 'user')} and {seeds} can show {found} "
        f"from {AGAINST[first.to]} with 80% power at the level of {LEVEL / number:.2g} ({LEVEL:g} "
        f"corrected for {count(number, 'comparison')}); to show {SHARE:.1%} of the base LLM's "
        f"value ({100 * power.sought:.2f} points), {wanted}."
    )


def results_plot(comparison: Comparison) -> pl.DataFrame:
    """NDCG@5 of each variant on each protocol: protocol, variant, value, low, high."""
    table = [
        [protocol, row.label, *_numbers(row.ndcg)]
        for protocol in comparison.protocols
        for row in rows(comparison, protocol)
    ]
    numbers = dict.fromkeys(("value", "low", "high"), pl.Float64)
    schema = {"protocol": pl.String, "variant": pl.String, **numbers}
    return pl.DataFrame(table, schema=schema, orient="row")
