"""Interactions in ranges of users, each small enough to be worked on in memory.

Users are numbered in the order of their ids, and a range holds the users of about `ROWS` ratings.
The ranges depend on the data alone, so that tables written range by range are the same bytes on
every machine, however much memory it has.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from rec.cleaning import ID_MISSING, KEPT, Rejects, reject_judged
from rec.config import Data
from rec.database import registered
from rec.progress import bar

ROWS = 2_000_000
#: What is written of a row.
ROW = {
    "user": pl.UInt32,
    "item": pl.UInt32,  # null where it has no metadata
    "rating": pl.Float32,
    "timestamp": pl.Int64,
    "fault": pl.UInt8,
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
        """Each pair of user and item of a range once (or at each time), in no order.

        Columns: user (place in the range), item, rating, timestamp, usable.
        """
        return self.only[number] if self.only else pl.read_parquet(self.path(number))

    def path(self, number: int) -> Path:
        """The file of a range's pairs."""
        return self.folder / f"{number}.parquet"


def build_ranges(
    connection: duckdb.DuckDBPyConnection,
    data: Data,
    folder: Path,
    rejects: Rejects,
    shown: pl.DataFrame | None = None,
) -> tuple[Ranges, int]:
    """Number the users, and bring each range's rows together, one for a pair of user and item.

    With `shown` a pair has a row for each of its times: items come back in lists, and a history
    without what was taken again later would tell what comes.

    Takes the view `judged` (`rec.cleaning.judge_ratings`). `shown` are the users' further rows
    (`rec.impressions.shown_per_user`), which count towards the size of a range. Returns also how
    many rows `judged` has.
    """
    query = "SELECT user, count(*) AS rows FROM judged GROUP BY user"
    counts: pl.DataFrame = connection.sql(query).pl().sort("user")
    nobody = counts.filter(pl.col("user").is_null())["rows"].sum()
    known = counts.filter(pl.col("user").is_not_null())
    size = known["rows"]
    if shown is not None:
        further = known.join(shown, on="user", how="left", maintain_order="left")["shown"]
        size = size + further.fill_null(0)
    places = ((size.cum_sum() - 1) // ROWS).to_numpy()
    first = np.flatnonzero(np.diff(places, prepend=-1))
    ranges = Ranges(known["user"], [*first.tolist(), len(known)], folder, [])
    numbered = known.select(
        "user",
        range=pl.Series(np.searchsorted(first, np.arange(len(known)), side="right") - 1),
    ).with_columns(code=pl.int_range(pl.len(), dtype=pl.UInt32).over("range"))
    faults = Counter({ID_MISSING: int(nobody)})
    with registered(connection, "numbered_users", numbered):
        for number, rows in enumerate(_rows(connection, folder, len(ranges))):
            faults.update(dict(enumerate(np.bincount(rows["fault"].to_numpy()).tolist())))
            pairs = one_per_pair(
                rows.filter(pl.col("item").is_not_null()), rejects, each_time=shown is not None
            )
            if len(ranges) == 1:
                ranges.only.append(pairs)
            else:
                pairs.write_parquet(ranges.path(number), compression="lz4")
    reject_judged(connection, data, faults, rejects)
    return ranges, int(counts["rows"].sum())


def _rows(
    connection: duckdb.DuckDBPyConnection, folder: Path, ranges: int
) -> Iterator[pl.DataFrame]:
    """The rows of each range in no order: ROW."""
    connection.execute(
        "CREATE TYPE file_name AS ENUM (SELECT DISTINCT file FROM judged ORDER BY file)"
    )
    rows = """
        SELECT code AS user, item_code AS item, rating, timestamp, fault,
            CAST(file AS file_name) AS file, row, range
        FROM judged JOIN numbered_users USING (user)
    """
    if ranges == 1:
        yield connection.sql(rows).pl().drop("range")
        return
    folder.mkdir(parents=True)
    target = str(folder).replace("'", "''")
    connection.execute(
        f"COPY ({rows}) TO '{target}' "
        "(FORMAT parquet, PARTITION_BY (range), COMPRESSION lz4, OVERWRITE_OR_IGNORE)"
    )
    with bar("read", ranges, "range") as progress:
        for number in range(ranges):
            parts = folder / f"range={number}"
            yield pl.read_parquet(parts / "*.parquet", schema=ROW, hive_partitioning=False)
            shutil.rmtree(parts)
            progress.update()


def one_per_pair(rows: pl.DataFrame, rejects: Rejects, each_time: bool = False) -> pl.DataFrame:
    """Of rows of one pair of user and item the latest usable one, or one for `each_time`.

    Of rows of one time the highest rating stays: a total order, whatever the order of the rows.
    """
    rows = rows.with_columns(usable=pl.col("fault") == 0)
    pair = rows["user"].to_numpy().astype(np.uint64) << np.uint64(32)
    pair |= rows["item"].to_numpy()
    ordered = np.sort(pair)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        place = np.searchsorted(twice, pair).clip(max=len(twice) - 1)
        repeated = pl.Series(twice[place] == pair)
        several = rows.with_columns(pair=pair).filter(repeated)
        rows = pl.concat([rows.filter(~repeated), _latest(several, rejects, each_time)])
    return rows.select("user", "item", "rating", "timestamp", "usable")


def _latest(rows: pl.DataFrame, rejects: Rejects, each_time: bool) -> pl.DataFrame:
    rows = rows.sort("pair", "usable", "timestamp", "rating", "file", "row")
    follows = pl.col("pair") == pl.col("pair").shift(-1)
    if each_time:
        follows &= pl.col("timestamp") == pl.col("timestamp").shift(-1)
        follows &= pl.col("usable") == pl.col("usable").shift(-1)
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
    return rows.filter(~pl.col("follows")).drop("pair", "follows", "both", "exact")
