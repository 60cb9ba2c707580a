"""Whether all runs rank the same lists: else their values could not be compared."""

from __future__ import annotations

from typing import Any

import polars as pl

from rec.errors import RecError

SPLITS = ("valid", "test")


def check_run(name: str, table: pl.DataFrame, run: tuple[str, str, int]) -> None:
    """Raise RecError, beginning with `name`, where a table RUNS is not that of one run, whole."""
    if table.is_empty():
        raise RecError(f"{name}: there are no rows")
    for column, value in zip(("variant", "backbone", "seed"), run, strict=True):
        other = table.filter(pl.col(column).ne_missing(value))
        if len(other):
            raise RecError(f"{name}: a row has {column} {other[column][0]!r}")
    for column in ("protocol", "user", "list", "sample"):
        if table[column].null_count():
            raise RecError(f"{name}: a row has no {column}")
    splits = set(table["split"].unique()) - set(SPLITS)
    if splits:
        found = min(map(str, splits))
        raise RecError(f"{name}: a row has split {found!r}; use {' or '.join(SPLITS)}")
    labels = pl.col("labels")
    least = labels.list.min().is_null() | (labels.list.min() < 0) | labels.list.contains(None)
    broken = table.filter(labels.is_null() | (labels.list.len() == 0) | least)
    if len(broken):
        raise RecError(
            f"{name}: labels of list {broken['list'][0]!r} are {broken['labels'].to_list()[0]}; "
            "they must be one or more numbers of 0 or more"
        )
    twice = table.filter(table.select("protocol", "list", "sample").is_duplicated())
    if len(twice):
        row = twice.row(0, named=True)
        raise RecError(
            f"{name}: list {row['list']!r} of protocol {row['protocol']} stands twice with "
            f"sample {row['sample']}"
        )
    _check_samples(name, table)


def _check_samples(name: str, table: pl.DataFrame) -> None:
    """All lists of a user must be ranked with the same responses."""
    counts = table.group_by("user", "protocol").agg(
        rows=pl.len(), lists=pl.n_unique("list"), samples=pl.n_unique("sample")
    )
    odd = counts.filter(pl.col("rows") != pl.col("lists") * pl.col("samples")).sort("user")
    if len(odd):
        user = odd["user"][0]
        raise RecError(
            f"{name}: the lists of user {user!r} were not ranked with the same responses"
        )


class Coverage:
    """Compares the lists of each run with those of the first."""

    def __init__(self, protocols: list[str]) -> None:
        self.protocols = protocols
        self.first: pl.DataFrame | None = None
        self.name = ""

    def check(self, name: str, table: pl.DataFrame) -> None:
        """Raise RecError, naming run and list, where the lists differ from the first run's."""
        lists = _lists(table)
        if self.first is None:
            self._check_first(name, lists)
            self.first, self.name = lists, name
        elif not lists.equals(self.first):
            raise RecError(f"{name}: {_difference(lists, self.first)} in the {self.name}")

    def _check_first(self, name: str, lists: pl.DataFrame) -> None:
        found = set(lists["protocol"].unique())
        if found != set(self.protocols):
            raise RecError(
                f"{name}: protocols are {', '.join(sorted(found))}; "
                f"they must be {', '.join(self.protocols)}"
            )
        twice = lists.filter(lists.select("protocol", "list").is_duplicated())
        if len(twice):
            raise RecError(
                f"{name}: list {twice['list'][0]!r} has several users, lengths or labels"
            )
        users = lists.filter(pl.col("split") == "test")["user"].n_unique()
        if users < 2:
            raise RecError(f"{name}: {users} test users; an interval needs 2 or more")


def _lists(table: pl.DataFrame) -> pl.DataFrame:
    """The lists of a run with all that no order of their items changes."""
    return (
        table.select(
            "protocol",
            "list",
            "user",
            "split",
            items=pl.col("labels").list.len(),
            labels=pl.col("labels").list.sum().cast(pl.Int64),
        )
        .unique()
        .sort("protocol", "list", "user", "items", "labels")
    )


def _difference(lists: pl.DataFrame, first: pl.DataFrame) -> str:
    key = ["protocol", "list"]
    absent = first.join(lists, on=key, how="anti").sort(key)
    if len(absent):
        return f"{_list(absent.row(0, named=True))} is missing, which is there"
    further = lists.join(first, on=key, how="anti").sort(key)
    if len(further):
        return f"{_list(further.row(0, named=True))} is there, which is missing"
    row = lists.join(first, on=lists.columns, how="anti").sort(key).row(0, named=True)
    return f"{_list(row)} has another user, split, length or other labels than"


def _list(row: dict[str, Any]) -> str:
    return f"list {row['list']!r} of protocol {row['protocol']}"
