"""The comparison as families: which variants are compared, by what, and corrected together.

The primary family is NDCG@5 on the main protocol, averaged over backbones. All others (further
protocols, MAP@5, single backbones) are secondary: the same comparisons, each family corrected by
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from rec.comparison.cells import Cells, cells
from rec.comparison.components import components, two_way_p
from rec.comparison.intervals import ends, resampled_means
from rec.comparison.names import last_round, round_number
from rec.comparison.power import Design, Power, power
from rec.comparison.result import (
    PRIMARY,
    SECONDARY,
    Comparison,
    Contrast,
    Difference,
    Estimate,
    Family,
    Slice,
)
from rec.comparison.significance import LEVEL, effect, holm, sign_flip
from rec.comparison.slices import HISTORIES, POPULARITIES
from rec.comparison.users import CLASS, MEASURE, UserTables
from rec.config import BASE_NAME
from rec.distributions import rounded
from rec.errors import RecError

Array = npt.NDArray[np.float64]
Pair = tuple[str, str]

MEASURES = ("ndcg@5", "map@5")
NONE = "none"


@dataclass(frozen=True)
class Draws:
    """How many resamples and permutations, and their seed."""

    bootstrap: int
    permutations: int
    seed: int


def pairs(variants: Sequence[str]) -> list[Pair]:
    """Which of the variants (slugs) are compared: (of, to), the main comparison first.

    >>> pairs(["none", "history", "base", "round_1"])[:2]
    [('round_1', 'base'), ('round_1', 'history')]
    """
    last = last_round(variants) or ""
    rounds = [name for name in variants if round_number(name) is not None]
    wanted = [
        (last, BASE_NAME),
        (last, "history"),
        (BASE_NAME, "history"),
        (last, NONE),
        (BASE_NAME, NONE),
        ("history", NONE),
        (BASE_NAME, "items"),
        ("history", "items"),
        ("history", "swapped"),
        ("items", NONE),
        ("noise", NONE),
        (BASE_NAME, "noise"),
        ("sft", BASE_NAME),
        (last, "sft"),
        *((name, BASE_NAME) for name in rounds),
    ]
    return [pair for pair in dict.fromkeys(wanted) if set(pair) <= set(variants)]


def compare(
    tables: UserTables, protocols: Sequence[str], thirds: dict[str, set[str]], draws: Draws
) -> Comparison:
    """The whole comparison on test users; `thirds` are users by the length of their history.

    Raises RecError where no knowledge or the base LLM is missing, which others are compared with.
    """
    test = tables.users.filter(pl.col("split") == "test")
    by_protocol = {
        (protocol, measure): cells(test.filter(pl.col("protocol") == protocol), measure)
        for protocol in protocols
        for measure in MEASURES
    }
    main = by_protocol[protocols[0], MEASURE]
    for name in (NONE, BASE_NAME):
        if name not in main.variants:
            raise RecError(f"runs: variant {name!r} is missing; the others are compared with it")
    backbones = ["", *(main.backbones if len(main.backbones) > 1 else [])]
    families = [
        family(by_protocol[protocol, measure], protocol, measure, backbone, draws)
        for backbone in backbones
        for measure in MEASURES
        for protocol in protocols
    ]
    first = test.row(0, named=True)
    keys = [pl.col(k) == first[k] for k in ("protocol", "backbone", "variant", "seed")]
    lists = test.filter(*keys).select("user", "lists")
    return Comparison(
        protocols=list(protocols),
        variants=main.variants,
        backbones=main.backbones,
        seeds=main.seeds,
        test_users=len(main.users),
        test_lists=int(lists["lists"].sum()),
        bootstrap=draws.bootstrap,
        permutations=draws.permutations,
        families=[replace(families[0], kind=PRIMARY), *families[1:]],
        slices=[
            *history_slices(main, dict(lists.iter_rows()), thirds, draws),
            *popularity_slices(tables.by_class, draws),
        ],
        power=main_power(main),
    )


def family(found: Cells, protocol: str, measure: str, backbone: str, draws: Draws) -> Family:
    """The values and comparisons by one metric on one protocol: of a backbone, or of all ("")."""
    table = found.table(backbone or None)
    levels, means = table.mean(axis=(0, 1)), resampled_means(table, draws.bootstrap, draws.seed)
    others = [name for name in found.variants if name != BASE_NAME]
    to_base = _differences(found.variants, levels, means, [(name, BASE_NAME) for name in others])
    return Family(
        kind=SECONDARY,
        protocol=protocol,
        backbone=backbone,
        measure=measure,
        values=dict(zip(found.variants, _estimates(levels, means), strict=True)),
        to_base=dict(zip(others, to_base, strict=True)),
        comparisons=tested(found.variants, table, means, pairs(found.variants), draws),
    )


def tested(
    variants: list[str], table: Array, means: Array, compared: list[Pair], draws: Draws
) -> list[Difference]:
    """The differences of pairs, with their p-values corrected for each other.

    `table` [seeds, users, variants] are the values, `means` [resamples, variants] those of
    resamples.
    """
    of, to = _places(variants, compared)
    paired = table[:, :, of] - table[:, :, to]  # [seeds, users, pairs]
    levels = table.mean(axis=(0, 1))
    over_users = sign_flip(paired.mean(axis=0), draws.permutations, draws.seed)
    over_both = [two_way_p(paired[:, :, n]) for n in range(len(compared))]
    p = np.maximum(over_users, over_both).tolist()
    names = [" ".join(pair) for pair in compared]
    corrected = holm(dict(zip(names, p, strict=True)))
    estimates = _differences(variants, levels, means, compared)
    return [
        _difference(pair, estimates[n], paired[:, :, n], levels[to[n]], (p[n], corrected[names[n]]))
        for n, pair in enumerate(compared)
    ]


def _difference(
    pair: Pair, estimate: Estimate, paired: Array, level: float, p: tuple[float, float]
) -> Difference:
    found = effect(paired.mean(axis=0))
    relative = 100 * float(paired.mean()) / level if level else None
    return Difference(
        of=pair[0],
        to=pair[1],
        estimate=estimate,
        relative_percent=None if relative is None else rounded(relative),
        effect_size=None if found.size is None else rounded(found.size),
        users_better=rounded(found.better),
        users_worse=rounded(found.worse),
        by_seed=[rounded(value) for value in paired.mean(axis=1)],
        p=rounded(p[0]),
        p_holm=rounded(p[1]),
    )


def _estimates(levels: Array, means: Array) -> list[Estimate]:
    low, high = ends(means)
    return [Estimate(*map(rounded, values)) for values in zip(levels, low, high, strict=True)]


def _differences(
    variants: list[str], levels: Array, means: Array, compared: list[Pair]
) -> list[Estimate]:
    of, to = _places(variants, compared)
    return _estimates(levels[of] - levels[to], means[:, of] - means[:, to])


def _places(variants: list[str], compared: list[Pair]) -> tuple[list[int], list[int]]:
    place = {name: index for index, name in enumerate(variants)}
    return [place[of] for of, _ in compared], [place[to] for _, to in compared]


def main_pair(variants: Sequence[str]) -> Pair:
    """The comparison that decides: of the last round with the base LLM.

    Without rounds it is that of the base LLM with history text, or else with no knowledge.
    """
    return pairs(variants)[0]


def main_power(found: Cells) -> Power:
    """The power of the main comparison, averaged over backbones, with the family's correction."""
    of, to = main_pair(found.variants)
    paired = found.of(of) - found.of(to)
    seeds, users = paired.shape
    design = Design(components(paired), seeds, LEVEL / len(pairs(found.variants)))
    return power(of, to, users, design, float(found.of(BASE_NAME).mean()))


def history_slices(
    found: Cells, lists: dict[str, int], thirds: dict[str, set[str]], draws: Draws
) -> list[Slice]:
    """The main differences among users of short, middle and long histories."""
    slices = []
    for name in HISTORIES:
        users = thirds.get(name, set()) & set(found.users)
        if len(users) > 1:
            count = sum(lists[user] for user in users)
            slices.append(_slice("history", name, found.among(users), count, draws))
    return slices


def popularity_slices(by_class: pl.DataFrame, draws: Draws) -> list[Slice]:
    """The main differences on lists whose positives are from head, torso and tail."""
    slices = []
    for name in POPULARITIES:
        table = by_class.filter(pl.col(CLASS) == name)
        if len(table):
            found = cells(table, MEASURE)
            if len(found.users) < 2:
                continue  # one user says nothing about others
            first = table.row(0, named=True)
            keys = [pl.col(k) == first[k] for k in ("backbone", "variant", "seed")]
            count = int(table.filter(*keys)["lists"].sum())
            slices.append(_slice("popularity", name, found, count, draws))
    return slices


def _slice(by: str, name: str, found: Cells, lists: int, draws: Draws) -> Slice:
    table = found.table()
    means = resampled_means(table, draws.bootstrap, draws.seed)
    shown = {last_round(found.variants), BASE_NAME, "history", NONE}
    chosen = [pair for pair in pairs(found.variants) if set(pair) <= shown]
    estimates = _differences(found.variants, table.mean(axis=(0, 1)), means, chosen)
    contrasts = [Contrast(*pair, one) for pair, one in zip(chosen, estimates, strict=True)]
    return Slice(by, name, len(found.users), lists, contrasts)
