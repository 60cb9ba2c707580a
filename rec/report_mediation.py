"""The report's section on the chain of mediation: its figure, its tables and its sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rec.mediation.links import RETOLD, STEPS, Link
from rec.mediation_chart import SHORT, Rounds, Spec, figure, mediation_chart, number_text
from rec.report_grid import DASH, Grid, Line


@dataclass(frozen=True)
class MediationSection:
    """What the section shows; `chart` is the specification of the chart `chart-mediation`."""

    sentences: list[str]  # one per round
    chain: Grid  # the links that decide about their steps
    details: list[Grid]  # all links, a table per step
    controls: list[str]  # what stands beside the rounds in these, by name
    chart: Spec


def mediation_section(rounds: Rounds, controls: Mapping[str, Sequence[Link]]) -> MediationSection:
    """The section from the links of each round, and of controls, by name, in what they share."""
    columns = {f"Round {number}": rounds[number] for number in sorted(rounds)}
    return MediationSection(
        sentences=[sentence(number, rounds[number]) for number in sorted(rounds)],
        chain=_grid(columns, "Link", list(STEPS), chain=True),
        details=[
            grid
            for step, name in STEPS.items()
            if (grid := _grid(_shown(columns, controls, step), name, [step], chain=False)).lines
        ],
        controls=list(controls),
        chart=mediation_chart(rounds),
    )


def sentence(number: int, links: Sequence[Link]) -> str:
    """Which is the first link of a round that does not hold, in the order of the chain.

    A link that could not be measured is named, and passed over.
    """
    deciding = _deciding(links)
    unknown = [STEPS[one.step] for one in deciding if one.holds is None]
    broken = first_broken(links)
    if len(unknown) == len(deciding):
        return f"Round {number}: no link of the chain could be measured."
    if broken is None:
        found = "the interval of every link that was measured lies above its null value"
    else:
        name = f"{SHORT[broken.step]}, “{STEPS[broken.step]}”"
        found = f"the first link that does not hold is {name}: {_where(broken)}"
    missing = f" Not measured: {'; '.join(unknown)}." if unknown else ""
    return f"Round {number}: {found}.{missing}"


def _deciding(links: Sequence[Link]) -> list[Link]:
    return [one for step in STEPS for one in links if one.chain and one.step == step]


def first_broken(links: Sequence[Link]) -> Link | None:
    """The first link of a round that was measured and does not hold; None where all hold."""
    return next((one for one in _deciding(links) if one.holds is False), None)


def _where(one: Link) -> str:
    assert one.high is not None
    null = number_text(one.null, one.unit).lstrip("+")
    side = "includes" if one.high >= one.null else "lies below"
    label = one.label[:1].lower() + one.label[1:]
    return (
        f"{label} is {figure(one)} ({one.unit}, {one.users:,} users), an interval that {side} the "
        f"null value {null}"
    )


def _shown(
    columns: Mapping[str, Sequence[Link]], controls: Mapping[str, Sequence[Link]], step: str
) -> Mapping[str, Sequence[Link]]:
    return {**columns, **controls} if step == RETOLD else columns


def _grid(
    columns: Mapping[str, Sequence[Link]], title: str, steps: list[str], *, chain: bool
) -> Grid:
    """Links of some steps by column; with `chain` only the deciding ones, named by their step."""
    rows: dict[str, dict[str, Link]] = {}
    for step in steps:
        for column, links in columns.items():
            for one in links:
                if one.step == step and (one.chain or not chain):
                    rows.setdefault(one.name, {})[column] = one
    lines = [_line(found, list(columns), chain=chain) for found in rows.values()]
    return Grid([title, "Null value", *columns], lines)


def _line(found: dict[str, Link], columns: list[str], *, chain: bool) -> Line:
    some = next(iter(found.values()))
    cells = [cell(found.get(column), chain=chain) for column in columns]
    null = number_text(some.null, some.unit).lstrip("+")
    if chain:
        return Line(_named(some.step), [null, *cells], f"{some.label}; {some.unit}")
    return Line(some.label, [null, *cells], some.unit)


def _named(step: str) -> str:
    """A step by its name in the chart and in words: `Identifiability: texts tell users apart`."""
    words = STEPS[step]
    return f"{SHORT[step]}: {words[:1].lower()}{words[1:]}"


def cell(one: Link | None, *, chain: bool) -> str:
    """A link's figure and where its interval lies: `.212 [.180, .245], holds`.

    Only what decides about a step holds or not: more noise than none is `above null`, and nothing
    to be glad of.
    """
    if one is None or one.value is None:
        return DASH
    assert one.high is not None
    above = "holds" if chain else "above null"
    verdict = above if one.holds else "includes null" if one.high >= one.null else "below null"
    return f"{figure(one)}, {verdict}"
