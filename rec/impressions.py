"""Lists that users were really shown: which published rows are used, by ranges of users.

| reason | what it says | what happens |
| --- | --- | --- |
| unparseable, wrong encoding | the reader could make no row of it | the row is dropped |
| id missing | no list, no user or no item | likewise |
| item without metadata | as of ratings (`rec.cleaning`) | likewise |
| label missing or not a number | | likewise |
| label out of range | no click (0 or 1), or no rating in `data.rating_*` (or 0) | likewise |
| position not a number | and not empty | likewise |
| timestamp missing or not a number | | likewise |
| timestamp impossible | as of ratings | likewise |
| list of several users | the list's id stands with another user as well | likewise |

All of these count towards `data.bad_rows`. `rec.shown` makes lists of the other rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl

from rec.cleaning import (
    FIRST_SECOND,
    LAST_SECOND,
    SECONDS,
    Rejects,
    first_faulty,
    shown_value,
)
from rec.config import Data
from rec.database import registered

Booleans = npt.NDArray[np.bool_]

RELATION = "impressions"
#: A shown item as a range holds it.
ROW = {
    "user": pl.UInt32,  # place in the range
    "list": pl.String,
    "item": pl.UInt32,
    "place": pl.Float64,
    "label": pl.Int8,  # 0 or 1
    "timestamp": pl.Int64,
    "file": pl.String,
    "row": pl.Int64,
}


# Rows


def check_impressions(connection: duckdb.DuckDBPyConnection, data: Data, rejects: Rejects) -> int:
    """Make the table `checked_impressions`: what can be read of each row, and its fault or null.

    Returns how many rows of impressions the files have, those that could not be read included.
    To be called after `rec.cleaning.judge_ratings`, which numbers the items (`coded_items`).

    Columns: list, user, item_code (null for an item without metadata), place (DOUBLE; null where
    it is not known), label (FLOAT: as published), positive (TINYINT: a click, or a rating of
    `data.positive_rating` or more), timestamp (BIGINT), file, row, fault.
    """
    _find_shared_lists(connection)
    connection.execute(
        f"""
        CREATE VIEW judged_impressions AS
        SELECT r.list, r.user, item_code, place, label,
            CAST(label >= CAST({_least(data)} AS FLOAT) AS TINYINT) AS positive,
            timestamp, file, row, value,
            {_fault(data)} AS fault
        FROM (
            SELECT nullif(trim(list), '') AS list, nullif(trim(user), '') AS user,
                nullif(trim(item), '') AS item, place AS told, try_cast(place AS DOUBLE) AS place,
                try_cast(label AS FLOAT) AS label, {SECONDS} AS timestamp, file, row,
                {shown_value("list", "user", "item", "place", "label", "timestamp")} AS value
            FROM raw_impressions
        ) AS r
        LEFT JOIN coded_items USING (item)
        """
    )
    connection.execute(
        "CREATE TABLE checked_impressions AS SELECT * EXCLUDE (value) FROM judged_impressions"
    )
    read = sum(rejects.of(RELATION).values())
    query = "SELECT fault, count(*) FROM checked_impressions GROUP BY fault"
    counts = dict(connection.sql(query).fetchall())
    read += sum(counts.values())
    counts.pop(None, None)
    _reject(connection, counts, rejects)
    return int(read)


def _least(data: Data) -> float:
    """The least label of a positive."""
    clicks = data.tabular.impressions.labels == "clicks"
    return 1.0 if clicks else data.positive_rating


def _fault(data: Data) -> str:
    """SQL: what is wrong with a row, or null."""
    clicks = data.tabular.impressions.labels == "clicks"
    rated = f"label BETWEEN {data.rating_minimum} AND {data.rating_maximum}"
    in_range = "label IN (0, 1)" if clicks else f"label = 0 OR {rated}"
    return f"""CASE
        WHEN r.list IS NULL OR r.user IS NULL OR r.item IS NULL THEN 'id missing'
        WHEN item_code IS NULL THEN 'item without metadata'
        WHEN label IS NULL OR NOT isfinite(label) THEN 'label missing or not a number'
        WHEN NOT ({in_range}) THEN 'label out of range'
        WHEN told IS NOT NULL AND NOT coalesce(isfinite(place), false)
            THEN 'position not a number'
        WHEN timestamp IS NULL THEN 'timestamp missing or not a number'
        WHEN timestamp NOT BETWEEN {FIRST_SECOND} AND {LAST_SECOND}
            THEN 'timestamp impossible'
        WHEN r.list IN (SELECT list FROM shared_lists) THEN 'list of several users'
        END"""


def _find_shared_lists(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table `shared_lists`: ids of lists that stand with more than one user."""
    connection.execute(
        """
        CREATE TABLE shared_lists AS SELECT list FROM (
            SELECT nullif(trim(list), '') AS list, nullif(trim(user), '') AS owner
            FROM raw_impressions
        ) WHERE list IS NOT NULL GROUP BY list HAVING min(owner) <> max(owner)
        """
    )


def _reject(
    connection: duckdb.DuckDBPyConnection, counts: dict[str, int], rejects: Rejects
) -> None:
    """Add the faulty rows of the view `judged_impressions`; `counts` are theirs by fault."""
    if not counts:
        return
    first = first_faulty(connection, "judged_impressions WHERE fault IS NOT NULL")
    for fault, count in counts.items():
        rejects.add(RELATION, fault, count, first.filter(pl.col("fault") == fault))


def shown_items(connection: duckdb.DuckDBPyConnection, items: int) -> Booleans:
    """Which of `items` items stand in a list, bool [items]: they are candidates, liked or not."""
    query = "SELECT DISTINCT item_code FROM checked_impressions WHERE fault IS NULL"
    found = np.zeros(items, dtype=np.bool_)
    found[connection.sql(query).pl()["item_code"].to_numpy()] = True
    return found


def shown_per_user(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """How many usable rows a user has: user, shown."""
    query = (
        "SELECT user, count(*) AS shown FROM checked_impressions WHERE fault IS NULL GROUP BY ALL"
    )
    rows: pl.DataFrame = connection.sql(query).pl()
    return rows


# Ranges of users


@dataclass(frozen=True)
class Shown:
    """The rows of shown lists, by ranges of users."""

    folder: Path
    unknown: int  # lists of users who are in no range: without any interaction

    def rows(self, number: int) -> pl.DataFrame:
        """The usable rows of a range, in no order: ROW, the items numbered as in `item_code`."""
        parts = self.folder / f"range={number}"
        if not parts.is_dir():
            return pl.DataFrame(schema=ROW)
        return pl.read_parquet(parts / "*.parquet", schema=ROW, hive_partitioning=False)


def split_shown(
    connection: duckdb.DuckDBPyConnection, users: pl.Series, starts: list[int], folder: Path
) -> Shown:
    """Bring the usable rows of `checked_impressions` together by ranges of users, into `folder`.

    `users` and `starts` are those of `rec.ranges.Ranges`. Lists of other users are left out, and
    counted: no interaction of theirs is known.
    """
    place = np.arange(len(users))
    first = np.asarray(starts[:-1], dtype=np.int64)
    number = np.searchsorted(first, place, side="right") - 1
    numbered = pl.DataFrame(
        {
            "user": users,
            "range": pl.Series(number, dtype=pl.Int64),
            "code": pl.Series(place - first[number], dtype=pl.UInt32),
        }
    )
    folder.mkdir(parents=True)
    target = str(folder).replace("'", "''")
    used = "FROM checked_impressions LEFT JOIN shown_users USING (user) WHERE fault IS NULL"
    rows = f"""
        SELECT code AS user, list, CAST(item_code AS UINTEGER) AS item, place, positive AS label,
            timestamp, file, row, range {used} AND code IS NOT NULL
    """
    lists = f"SELECT count(*) FROM (SELECT DISTINCT list {used} AND code IS NULL)"
    with registered(connection, "shown_users", numbered):
        connection.execute(
            f"COPY ({rows}) TO '{target}' "
            "(FORMAT parquet, PARTITION_BY (range), COMPRESSION lz4, OVERWRITE_OR_IGNORE)"
        )
        ((unknown,),) = connection.sql(lists).fetchall()
    return Shown(folder, int(unknown))


def kept_rows(rows: pl.DataFrame, users: Booleans, items: Booleans) -> pl.DataFrame:
    """The rows of kept users (of the range) and kept items, the items numbered among these."""
    item = rows["item"].to_numpy()
    both = users[rows["user"].to_numpy()] & items[item]
    numbers = np.cumsum(items, dtype=np.uint32) - np.uint32(1)
    return rows.with_columns(item=pl.Series(numbers[item], dtype=pl.UInt32)).filter(pl.Series(both))
