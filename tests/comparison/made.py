"""Made-up runs, from lists whose order is written down or drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from rec.comparison.families import Draws, compare
from rec.comparison.names import slug
from rec.comparison.result import Comparison
from rec.comparison.users import Run, UserTables, user_tables
from rec.config import BASELINES, ORDERS
from rec.tables import ITEMS, LISTS, NO_SAMPLE, RUNS

#: Labels in ranked order, by user, list and response.
Ranked = Mapping[str, Sequence[Sequence[Sequence[int]]]]
PROTOCOLS = ["popularity", "uniform"]
DRAWS = Draws(200, 199, 7)
NO_CLASSES = pl.DataFrame(schema={"list": pl.String, "class": pl.String})
#: How well a variant of `random_runs` ranks: what it adds to the score of a positive.
STRENGTH = {
    "popularity": 0.2,
    "random": 0.0,
    "none": 0.8,
    "noise": 0.8,
    "items": 0.9,
    "swapped": 0.9,
    "history": 1.1,
    "0": 1.0,
    "1": 1.2,
    "2": 1.3,
    "sft": 1.0,
}


def is_order(variant: str) -> bool:
    return variant in ORDERS


def samples(variant: str, count: int) -> list[int]:
    return [NO_SAMPLE] if variant in (*ORDERS, *BASELINES) else list(range(count))


def table(
    run: Run, ranked: Ranked, split: str = "test", protocols: Sequence[str] = ("popularity",)
) -> pl.DataFrame:
    """A RUNS table; a user's list n is named USER-n, and is of its labels in falling order."""
    rows = [
        [
            *run[:2],
            protocol,
            run.seed,
            split,
            user,
            f"{user}-{number}",
            sample,
            list(labels),
            places(labels),
        ]
        for protocol in protocols
        for user, lists in ranked.items()
        for number, told in enumerate(lists)
        for sample, labels in zip(samples(run.variant, len(told)), told, strict=True)
    ]
    return pl.DataFrame(rows, schema=dict(RUNS), orient="row")


def places(labels: Sequence[int]) -> list[int]:
    """Where ranked labels may stand in a list that has the same ones in falling order."""
    order = np.argsort(-np.array(labels), kind="stable")
    return np.argsort(order).tolist()  # type: ignore[no-any-return]


def first_hit(*ranks: int, length: int = 3) -> list[list[list[int]]]:
    """A user's lists with one positive each, at these 1-based ranks, one response each."""
    return [[[int(place == rank) for place in range(1, length + 1)]] for rank in ranks]


def users_of(
    *tables: tuple[Run, pl.DataFrame], protocols: Sequence[str] = ("popularity",)
) -> pl.DataFrame:
    """Their per-user metrics."""
    return user_tables(tables, list(protocols), NO_CLASSES).users


def random_runs(
    variants: Sequence[str],
    users: int = 12,
    lists: int = 3,
    backbones: Sequence[str] = ("dlcm", "prm"),
    seeds: Sequence[int] = (1, 2),
    told: int = 1,
    strength: Mapping[str, float] = STRENGTH,
) -> Iterator[tuple[Run, pl.DataFrame]]:
    """Runs of these variants over both protocols; the better the higher their strength.

    All know the same noise of a list, and have some of their own.
    """
    shared = np.random.default_rng(0).normal(size=(2, users, lists, 1, 10))
    truth = np.zeros(10)
    truth[:3] = 1
    for variant in variants:
        single = is_order(variant)
        for backbone in [""] if single else backbones:
            for seed in [0] if single else seeds:
                run = Run(variant, backbone, seed)
                own = np.random.default_rng([seed, *map(ord, variant + backbone)])
                count = len(samples(variant, told))
                noise = shared + 0.4 * own.normal(size=(2, users, lists, count, 10))
                order = np.argsort(-(truth * strength[variant] * 2 + noise), axis=-1)
                yield run, _random_table(run, truth[order].astype(int))


def _random_table(run: Run, labels: np.ndarray) -> pl.DataFrame:
    parts = []
    for number, protocol in enumerate(PROTOCOLS):
        ranked = {f"u{u:02}": lists.tolist() for u, lists in enumerate(labels[number])}
        parts.append(table(run, ranked, protocols=[protocol]))
    return pl.concat(parts)


def random_tables(variants: Sequence[str], **options: object) -> UserTables:
    """The per-user metrics of random runs."""
    return user_tables(random_runs(variants, **options), PROTOCOLS, classes_table())  # type: ignore[arg-type]


def random_comparison(
    variants: Sequence[str], draws: Draws = DRAWS, **options: object
) -> Comparison:
    """The comparison of random runs."""
    thirds = {"short": {"u00", "u01", "u02"}, "long": {"u03", "u04"}}
    return compare(random_tables(variants, **options), PROTOCOLS, thirds, draws)


def classes_table(users: int = 12, lists: int = 3) -> pl.DataFrame:
    """The lists of `random_runs`: the first of each user is of the head, the last of the tail."""
    names = {0: "head", lists - 1: "tail"}
    rows = [[f"u{u:02}-{n}", names[n]] for u in range(users) for n in names]
    return pl.DataFrame(rows, schema={"list": pl.String, "class": pl.String}, orient="row")


def cells_table(
    values: Mapping[str, Mapping[tuple[str, int], Mapping[str, float]]],
) -> pl.DataFrame:
    """Values of "ndcg@5" by variant, (backbone, seed) and user, as `rec.comparison.cells` reads."""
    rows = [
        [variant, backbone, seed, user, value]
        for variant, runs in values.items()
        for (backbone, seed), found in runs.items()
        for user, value in found.items()
    ]
    schema = ["variant", "backbone", "seed", "user", "ndcg@5"]
    return pl.DataFrame(rows, schema=schema, orient="row")


def lists_table(users: int = 12, lists: int = 3) -> pl.DataFrame:
    """Test lists of the users of `random_runs`, later users with longer histories."""
    rows = [
        [f"u{u:02}-{n}", f"u{u:02}", "test", 10 * (u + 1) + n, _items(n), [1, 1, 1] + [0] * 7]
        for u in range(users)
        for n in range(lists)
    ]
    return pl.DataFrame(rows, schema=dict(LISTS), orient="row")


def _items(number: int) -> list[str]:
    """Ten items of `items_table`, the positives first: all of the head, the torso or the tail."""
    positives = "abcdefghi"[3 * number : 3 * number + 3]
    return [*positives, *(item for item in "abcdefghijkl" if item not in positives)][:10]


def items_table(popularity: Sequence[int] = (2,) * 6 + (1,) * 6) -> pl.DataFrame:
    """Items a, b, c ... by falling popularity."""
    rows = [
        {
            "item": chr(97 + rank),
            "title": chr(65 + rank),
            "categories": [],
            "popularity": count,
            "rank": rank,
        }
        for rank, count in enumerate(popularity)
    ]
    return pl.DataFrame(rows, schema=dict(ITEMS))


def slugs(variants: Sequence[str]) -> list[str]:
    return [slug(variant) for variant in variants]
