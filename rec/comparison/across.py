"""The same variant in two experiments: what a changed parameter did to it."""

from __future__ import annotations

import numpy as np
import polars as pl

from rec.comparison.cells import Cells, cells
from rec.comparison.families import Draws, tested
from rec.comparison.intervals import resampled_means
from rec.comparison.names import BEST
from rec.comparison.result import Difference
from rec.errors import RecError
from rec.tables import NO_BACKBONE

AFTER, BEFORE = "after", "before"


def across(
    after: pl.DataFrame,
    before: pl.DataFrame,
    split: str,
    protocol: str,
    measure: str,
    draws: Draws,
) -> dict[str, Difference]:
    """By variant (slug): a metric in one experiment minus the same in another, on users of a split.

    Users of `valid` are to choose a setting by, those of `test` to report what it does once it is
    chosen. Every re-ranker stopped early on the former, so that their level is flattered; what two
    settings differ by is hardly.

    The tables are `rec.tables.USER_METRICS` of two experiments on the same lists. Variants that
    either lacks are passed over, and those that are the same in both, which the change did not
    touch; p-values are corrected over the variants that are left. Users are paired, and seeds by
    their number. Means are over the backbones that both have.

    Raises RecError where the two have no trained variant, no backbone, or not the same seeds and
    users in common, or where a user's lists differ in number: they are not comparable then.
    """
    sides = [_of_split(table, split, protocol) for table in (after, before)]
    shared = [
        set(sides[0][name].unique()) & set(sides[1][name].unique())
        for name in ("variant", "backbone")
    ]
    sides = [
        side.filter(pl.col("variant").is_in(shared[0]), pl.col("backbone").is_in(shared[1]))
        for side in sides
    ]
    if not shared[0] or not shared[1]:
        raise RecError(f"the experiments share no trained variant and backbone of {protocol!r}")
    one, other = (cells(side, measure) for side in sides)
    _require_same(one, other, sides)
    values = np.concatenate([one.table(), other.table()], axis=2)
    columns = [f"{when} {name}" for when in (AFTER, BEFORE) for name in one.variants]
    changed = [name for name in one.variants if not np.array_equal(one.of(name), other.of(name))]
    compared = [(f"{AFTER} {name}", f"{BEFORE} {name}") for name in changed]
    means = resampled_means(values, draws.bootstrap, draws.seed)
    found = tested(columns, values, means, compared, draws)
    return dict(zip(changed, found, strict=True))


def _of_split(table: pl.DataFrame, split: str, protocol: str) -> pl.DataFrame:
    """The trained variants on users of a split; which of N responses is best depends on the N."""
    return table.filter(
        pl.col("split") == split,
        pl.col("protocol") == protocol,
        pl.col("backbone") != NO_BACKBONE,
        pl.col("variant") != BEST,
    )


def _require_same(one: Cells, other: Cells, sides: list[pl.DataFrame]) -> None:
    for name in ("seeds", "users"):
        if getattr(one, name) != getattr(other, name):
            raise RecError(f"the experiments differ in their {name}; only the same can be paired")
    counts = [side.select("user", "lists").unique().sort("user") for side in sides]
    if not counts[0].equals(counts[1]):
        raise RecError("the experiments differ in the lists of users: they cannot be paired")
