"""Per-user metrics as arrays, one cell per variant, backbone, seed and user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rec.comparison.names import in_order, slug
from rec.errors import RecError
from rec.tables import NO_BACKBONE

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """Values [variants, backbones, seeds, users] of one metric, variants by slug."""

    variants: list[str]
    backbones: list[str]
    seeds: list[int]
    users: list[str]
    values: Array

    def of(self, variant: str, backbone: str | None = None) -> Array:
        """A variant's values [seeds, users]: of one backbone, or their mean."""
        values = self.values[self.variants.index(variant)]
        chosen: Array = (
            values.mean(axis=0) if backbone is None else values[self.backbones.index(backbone)]
        )
        return chosen

    def table(self, backbone: str | None = None) -> Array:
        """All variants' values [seeds, users, variants]."""
        return np.stack([self.of(variant, backbone) for variant in self.variants], axis=2)

    def among(self, users: set[str]) -> Cells:
        """The cells of some of the users."""
        chosen = [index for index, user in enumerate(self.users) if user in users]
        kept = [self.users[index] for index in chosen]
        return Cells(self.variants, self.backbones, self.seeds, kept, self.values[..., chosen])


def cells(table: pl.DataFrame, measure: str) -> Cells:
    """The cells of one metric, as `cells_of` has them."""
    return cells_of(table, [measure])[measure]


def cells_of(table: pl.DataFrame, measures: Sequence[str]) -> dict[str, Cells]:
    """By metric, the cells of a table with variant, backbone, seed, user and a column per metric.

    Orders of the lists, which have neither backbone nor seed, count as the same with all of them.

    Raises RecError where a trained variant lacks a backbone, a seed or a user.
    """
    trained = table.filter(pl.col("backbone") != NO_BACKBONE)
    backbones = trained["backbone"].unique().sort().to_list()
    seeds = trained["seed"].unique().sort().to_list()
    users = table["user"].unique().sort().to_list()
    found = {slug(variant): variant for variant in table["variant"].unique().to_list()}
    variants = in_order(found)
    shape = (len(measures), len(variants), len(backbones), len(seeds), len(users))
    values = np.full(shape, np.nan)
    places = {user: index for index, user in enumerate(users)}
    for number, name in enumerate(variants):
        rows = table.filter(pl.col("variant") == found[name])
        for (backbone, seed), part in rows.group_by("backbone", "seed"):
            where = part["user"].replace_strict(places, return_dtype=pl.Int64).to_numpy()
            one = np.full((len(measures), len(users)), np.nan)
            one[:, where] = part.select(measures).to_numpy().T
            if backbone == NO_BACKBONE:
                values[:, number] = one[:, None, None]
            else:
                values[:, number, backbones.index(backbone), seeds.index(seed)] = one
    if np.isnan(values).any():
        lacking = variants[int(np.isnan(values).any((0, 2, 3, 4)).argmax())]
        raise RecError(
            f"runs: {lacking!r} lacks a backbone, a seed or a user that another variant has"
        )
    return {
        measure: Cells(variants, backbones, seeds, users, values[place])
        for place, measure in enumerate(measures)
    }
