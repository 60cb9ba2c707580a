"""From ranked lists to per-user metrics.

A user's value is the mean over the user's lists of the mean over the responses that were told, so
that users weigh the same however many lists they have. Metrics are computed once for each order of
labels that occurs, of which there are far fewer than lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from rec.comparison.coverage import Coverage, check_run
from rec.comparison.names import BEST
from rec.config import BASE
from rec.rerank.metrics import NAMES, ranked_metrics
from rec.tables import NO_BACKBONE, NO_SEED, USER_METRICS

Array = npt.NDArray[np.float64]

#: By this the best response of a user is chosen, and slices are measured.
MEASURE = "ndcg@5"
LISTS = ("protocol", "split", "user", "list")
USERS = ("protocol", "split", "user")
#: Column of a class of lists (`rec.comparison.slices`).
CLASS = "class"


class Run(NamedTuple):
    """One re-ranker, or an order of the lists (no backbone, seed 0)."""

    variant: str
    backbone: str = NO_BACKBONE
    seed: int = NO_SEED

    def __str__(self) -> str:
        if not self.backbone:
            return f"runs of {self.variant!r}"
        return f"runs of {self.variant!r}, backbone {self.backbone}, seed {self.seed}"


Runs = Iterable[tuple[Run, pl.DataFrame]]


@dataclass(frozen=True)
class UserTables:
    """Per-user metrics, and the same by class of lists."""

    users: pl.DataFrame  # rec.tables.USER_METRICS
    #: Of test users and the main protocol: backbone, variant, seed, user, class, lists, ndcg@5.
    by_class: pl.DataFrame


def user_tables(runs: Runs, protocols: list[str], classes: pl.DataFrame) -> UserTables:
    """Metrics of every run's users; `protocols` are those of every run, the main one first.

    `classes` has the columns list and class; lists that are not there are in no class. Where all
    test users have two responses or more, the base LLM's runs also give the variant `BEST`: for
    each protocol, backbone and seed the user's response of the highest `MEASURE` over the user's
    lists. It peeks at the labels, and some of its gain is luck, as of every maximum: an upper bound
    of what choosing among responses can reach.

    Raises RecError, naming the run, where a table is broken or covers other lists than the first.
    """
    coverage = Coverage(protocols)
    users, by_class = [], []
    for run, table in runs:
        check_run(str(run), table, run)
        coverage.check(str(run), table)
        for variant, lists, values in _variants(run, table):
            names = {"variant": variant, "backbone": run.backbone, "seed": run.seed}
            users.append(_per_user(lists, values).with_columns(_literals(names)))
            chosen = _per_class(lists, values, protocols[0], classes)
            by_class.append(chosen.with_columns(_literals(names)))
    order = ["protocol", "backbone", "variant", "seed", "split", "user"]
    return UserTables(
        pl.concat(users).select(list(USER_METRICS)).sort(order),
        pl.concat(by_class).sort("backbone", "variant", "seed", CLASS, "user"),
    )


def _literals(names: Mapping[str, object]) -> list[pl.Expr]:
    return [pl.lit(value, USER_METRICS[name]).alias(name) for name, value in names.items()]


def _variants(run: Run, table: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame, Array]]:
    """The run's variant, and `BEST` beside the base LLM: lists in order, and their metrics."""
    rows = table.sort(*LISTS, "sample")
    values = label_metrics(rows["labels"])
    keys = rows.select(*LISTS, "sample")
    yield run.variant, *_means(keys, values, LISTS)
    if run.variant == BASE and _several(keys):
        chosen = best_rows(keys, values[:, NAMES.index(MEASURE)])
        yield BEST, *_means(keys.filter(chosen), values[chosen], LISTS)


def _several(keys: pl.DataFrame) -> bool:
    """Whether every test user was told two responses or more."""
    counts = keys.filter(pl.col("split") == "test").group_by("user").agg(pl.n_unique("sample"))
    return bool((counts["sample"] >= 2).all())


def best_rows(keys: pl.DataFrame, values: Array) -> npt.NDArray[np.bool_]:
    """Which rows (protocol, split, user, list, sample) tell each user's best response.

    That is the one of the highest mean over the user's lists, of several the first.
    """
    order = keys.with_columns(value=values, row=pl.int_range(pl.len())).sort(
        *USERS, "sample", "row"
    )
    samples, means = _means(
        order.drop("value"), order["value"].to_numpy()[:, None], (*USERS, "sample")
    )
    best = (
        samples.with_columns(value=pl.Series(means[:, 0]).round(12))
        .sort(*USERS, "value", "sample", descending=[False] * len(USERS) + [True, False])
        .unique(USERS, keep="first", maintain_order=True)
        .select(*USERS, "sample", best=pl.lit(True))
    )
    joined = keys.join(best, on=[*USERS, "sample"], how="left", maintain_order="left")
    chosen: npt.NDArray[np.bool_] = joined["best"].fill_null(False).to_numpy()
    return chosen


def label_metrics(labels: pl.Series) -> Array:
    """All metrics of lists of labels in ranked order, of any lengths: [lists, NAMES]."""
    lengths = labels.list.len().to_numpy()
    matrix = np.zeros((len(labels), max(int(lengths.max(initial=1)), 1)), dtype=np.int64)
    matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = labels.list.explode().drop_nulls()
    base = max(int(matrix.max(initial=0)) + 1, 2)
    if base ** matrix.shape[1] < 2**63:  # a list is a number of so many digits
        codes = matrix @ base ** np.arange(matrix.shape[1], dtype=np.int64)
        _, first, place = np.unique(codes, return_index=True, return_inverse=True)
    else:
        _, first, place = np.unique(matrix, axis=0, return_index=True, return_inverse=True)
    metrics: Array = ranked_metrics(matrix[first])[place.reshape(-1)]
    return metrics


def _means(keys: pl.DataFrame, values: Array, by: Iterable[str]) -> tuple[pl.DataFrame, Array]:
    """Means of rows of equal `by`, which stand together; added up in their order."""
    names = list(by)
    numbers = keys.select(pl.struct(names).rle_id()).to_series().to_numpy()
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    counts = np.diff(starts, append=len(keys))
    means: Array = np.add.reduceat(values, starts, axis=0) / counts[:, None]
    return keys[starts].select(names).with_columns(rows=pl.Series(counts, dtype=pl.Int32)), means


def _per_user(lists: pl.DataFrame, values: Array) -> pl.DataFrame:
    users, means = _means(lists, values, USERS)
    table = pl.DataFrame(means, schema=dict.fromkeys(NAMES, pl.Float64))
    return users.rename({"rows": "lists"}).hstack(table)


def _per_class(
    lists: pl.DataFrame, values: Array, protocol: str, classes: pl.DataFrame
) -> pl.DataFrame:
    table = (
        lists.with_columns(pl.Series(MEASURE, values[:, NAMES.index(MEASURE)]))
        .filter((pl.col("protocol") == protocol) & (pl.col("split") == "test"))
        .join(classes.select("list", CLASS), on="list")
        .sort(CLASS, "user", "list")
    )
    users, means = _means(table, table.select(MEASURE).to_numpy(), (CLASS, "user"))
    return users.rename({"rows": "lists"}).with_columns(pl.Series(MEASURE, means[:, 0]))
