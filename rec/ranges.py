"""Interactions in ranges of users, each small enough to be worked on in memory.

Users are numbered in the order of their ids, and a range holds the users of about `ROWS` ratings.
The ranges depend on the data alone, so that tables written range by range are the same bytes on
every machine, however much memory it has.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from rec.cleaning import KEPT, Rejects
from rec.progress import bar

ROWS = 2_000_000
#: What is written of a row: said, because a range without any known item has no file.
ROW = {
    "user": pl.UInt32,
    "item": pl.UInt32,
    "rating": pl.Float32,
    "timestamp": pl.Int64,
    "usable": pl.Boolean,
    "file": pl.String,
    "row": pl.Int64,
}


@dataclass(frozen=True)
class Ranges:
    """The users in order, and where the pairs of each range lie."""

    users: pl.Series  # ids in order
    starts: list[int]  # first user of each range, and the number of users at the end
    folder: Path  # with the pairs of each range, where there are several
    only: list[pl.DataFrame]  # the pairs of the only range, where there is one

    def __len__(self) -> int:
        return len(self.starts) - 1

    def ids(self, number: int) -> pl.Series:
        """The users of a range."""
        start, end = self.starts[number : number + 2]
        return self.users.slice(start, end - start)

    def pairs(self, number: int) -> pl.DataFrame:
        """Each pair of user and item of a range once, sorted by user and item.

        Columns: user (place in the range), item, rating, timestamp, usable.
        """
        return self.only[number] if self.only else pl.read_parquet(self.path(number))

    def path(self, number: int) -> Path:
        """The file of a range's pairs."""
        return self.folder / f"{number}.parquet"


def build_ranges(connection: duckdb.DuckDBPyConnection, folder: Path, rejects: Rejects) -> Ranges:
    """Number the users, and bring each range's rows together, one for a pair of user and item."""
    counts: pl.DataFrame = connection.sql(
        "SELECT user, count(*) AS rows FROM checked WHERE user IS NOT NULL GROUP BY user"
    ).pl()
    counts = counts.sort("user")
    places = ((counts["rows"].cum_sum() - 1) // ROWS).to_numpy()
    first = np.flatnonzero(np.diff(places, prepend=-1))
    ranges = Ranges(counts["user"], [*first.tolist(), len(counts)], folder, [])
    numbered = counts.select(
        "user",
        range=pl.Series(np.searchsorted(first, np.arange(len(counts)), side="right") - 1),
    ).with_columns(code=pl.int_range(pl.len(), dtype=pl.UInt32).over("range"))
    connection.register("numbered_users", numbered.to_arrow())
    folder.mkdir(parents=True)
    rows = """
        SELECT code AS user, item_code AS item, rating, timestamp, fault IS NULL AS usable,
            file, row, range
        FROM checked JOIN numbered_users USING (user) WHERE item_code IS NOT NULL
    """
    if len(ranges) == 1:
        read = connection.sql(rows).pl().drop("range").cast(ROW)
        ranges.only.append(one_per_pair(read, rejects))
        return ranges
    _partition(connection, rows, folder, len(ranges))
    with bar("read", len(ranges), "range") as progress:
        for number in range(len(ranges)):
            parts = folder / f"range={number}"
            read = pl.read_parquet(parts / "*.parquet", schema=ROW, hive_partitioning=False)
            one_per_pair(read, rejects).write_parquet(ranges.path(number), compression="lz4")
            shutil.rmtree(parts)
            progress.update()
    return ranges


def _partition(connection: duckdb.DuckDBPyConnection, rows: str, folder: Path, ranges: int) -> None:
    """Write the rows of each range into a folder of its own."""
    target = str(folder).replace("'", "''")
    connection.execute(
        f"COPY ({rows}) TO '{target}' "
        "(FORMAT parquet, PARTITION_BY (range), COMPRESSION lz4, OVERWRITE_OR_IGNORE)"
    )
    for number in range(ranges):  # a range without any item that is known
        (folder / f"range={number}").mkdir(exist_ok=True)


def one_per_pair(rows: pl.DataFrame, rejects: Rejects) -> pl.DataFrame:
    """Of rows of one pair of user and item the latest usable one, sorted by user and item.

    Of rows of one time the highest rating stays: a total order, whatever the order of the rows.
    """
    rows = rows.with_columns(
        pair=pl.col("user").cast(pl.Int64) * 2**32 + pl.col("item").cast(pl.Int64)
    ).sort("pair")
    pair = rows["pair"].to_numpy()
    same = np.append(pair[1:] == pair[:-1], False)
    repeated = same | np.roll(same, 1)
    if repeated.any():
        clear = rows.filter(~pl.Series(repeated))
        rows = pl.concat([clear, _latest(rows.filter(pl.Series(repeated)), rejects)]).sort("pair")
    return rows.select("user", "item", "rating", "timestamp", "usable")


def _latest(rows: pl.DataFrame, rejects: Rejects) -> pl.DataFrame:
    order = ["pair", "usable", "timestamp", "rating", "file", "row"]
    rows = rows.sort(order)
    follows = pl.col("pair") == pl.col("pair").shift(-1)
    both = follows & pl.col("usable") & pl.col("usable").shift(-1)
    exact = both & pl.all_horizontal(
        pl.col(name) == pl.col(name).shift(-1) for name in ("timestamp", "rating")
    )
    rows = rows.with_columns(
        follows=follows.fill_null(False), both=both.fill_null(False), exact=exact.fill_null(False)
    )
    value = pl.format("rating {} at {}", "rating", "timestamp")
    for reason, found in (
        ("exact duplicate", rows.filter("exact")),
        ("repeated user and item", rows.filter(pl.col("both") & ~pl.col("exact"))),
    ):
        first = found.sort("file", "row").head(KEPT).with_columns(value=value)
        rejects.add("ratings", reason, len(found), first)
    return rows.filter(~pl.col("follows")).drop("follows", "both", "exact")
