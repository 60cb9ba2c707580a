"""What the prepared data are: counts, distributions, and how far popularity alone gets.

DuckDB reads the tables where they lie, within its memory limit; what comes back are counts of
distinct values (`rec.distributions`) and means.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from rec.database import connect
from rec.distributions import CURVE, Distribution, merged, rounded
from rec.errors import RecError
from rec.popularity import popularity_baseline
from rec.tables import (
    INTERACTIONS,
    ITEMS,
    LISTS,
    USERS,
    Schema,
    TablePaths,
    check_schema,
    read_protocols,
)

SPLITS = ("train", "valid", "test")
#: Ratings of more distinct values are counted in this many intervals of one width.
RATINGS = 20
#: Reasons for which a list is dropped before anybody asks whether it has a positive.
EARLIER = ("short last block", "user without interactions", "within the profile part")
NO_POSITIVE = "without a positive"

#: Relations whose rows are counted as read.
ROWS = ("ratings", "impressions")

Connection = duckdb.DuckDBPyConnection
Figures = dict[str, Any]
BySplit = dict[str, dict[str, Distribution]]  # by column and split

OF_USERS = """
    SELECT split, coalesce(interactions, 0) AS interactions, profile_interactions, lists
    FROM users LEFT JOIN (
        SELECT "user", count(*) AS interactions FROM interactions GROUP BY "user"
    ) USING ("user")
"""
OF_LISTS = """
    SELECT split, len(items) AS items, position AS history,
        len(list_filter(labels, lambda label: label >= 1)) AS positives
    FROM lists
"""


def describe(
    tables: TablePaths,
    prepared: Mapping[str, Any],
    work: Path,
    memory_limit: str = "",
    threads: int | None = None,
) -> Figures:
    """Everything in stats.json; `prepared` are the counts that came with the tables.

    All of it is of the main protocol, but for `further_protocols`: what the orders of the baseline
    reach on the test lists of the others (`tables.further`), null where none has a positive.
    What does not fit `memory_limit` (see `rec.database.connect`) goes into `work` until the end.
    Raises RecError where a table is missing, empty or of another schema, or where counts are
    missing.
    """
    shutil.rmtree(work, ignore_errors=True)  # what a killed run left
    work.mkdir(parents=True)
    try:
        with connect(work, memory_limit, threads) as connection:
            _open(connection, "interactions", tables.interactions, INTERACTIONS)
            _open(connection, "items", tables.items, ITEMS)
            _open(connection, "users", tables.users, USERS)
            _open(connection, "lists", tables.lists, LISTS)
            figures = _figures(connection, prepared)
            return {**figures, "further_protocols": _further(connection, tables.further)}
    finally:
        shutil.rmtree(work)


def _further(connection: Connection, further: Mapping[str, Path]) -> Figures:
    found: Figures = {}
    for protocol, path in further.items():
        _open(connection, "all_further", path, LISTS)
        query = "CREATE OR REPLACE VIEW further AS FROM all_further WHERE split = 'test'"
        connection.execute(query)
        found[protocol] = popularity_baseline(connection, "further").get("test")
    return found


def _open(connection: Connection, name: str, path: Path, schema: Schema) -> None:
    if not path.is_file():
        raise RecError(f"{path}: no such file; run the stage that writes it (`dvc repro`)")
    try:
        head = pl.scan_parquet(path).head(0).collect()
    except pl.exceptions.PolarsError as error:
        raise RecError(f"{path}: not a readable Parquet file") from error
    check_schema(head, schema, str(path))
    connection.read_parquet(str(path), file_row_number=True).create_view(name)


def _figures(connection: Connection, prepared: Mapping[str, Any]) -> Figures:
    totals = _totals(connection)
    users = _by_split(connection, OF_USERS, ("interactions", "profile_interactions", "lists"))
    lists = _by_split(connection, OF_LISTS, ("items", "positives", "history"))
    baseline = popularity_baseline(connection)
    return {
        **totals,
        "protocols": read_protocols(prepared),
        "splits": {split: _split(split, users, lists) for split in SPLITS},
        "ratings": _ratings(connection),
        "per_user": _spreads(users),
        "per_item": _per_item(connection),
        "per_list": _spreads(lists),
        "popularity_baseline": {split: baseline.get(split) for split in SPLITS},
        **_prepared(prepared, totals["lists"], totals["interactions"]),
    }


def _totals(connection: Connection) -> Figures:
    """Sizes of the tables, density (interactions / (users x items)), and the days they span."""
    query = """
        SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM items),
            (SELECT count(*) FROM lists), count(*), min(timestamp), max(timestamp)
        FROM interactions
    """
    users, items, lists, interactions, first, last = connection.sql(query).fetchall()[0]
    if not (users and items and lists and interactions):
        raise RecError("the tables hold no users, items, lists or interactions; run `prepare`")
    query = (
        "SELECT count(*) FILTER (year IS NULL), count(*) FILTER (len(categories) = 0) FROM items"
    )
    no_year, no_categories = connection.sql(query).fetchall()[0]
    return {
        "users": users,
        "items": items,
        "interactions": interactions,
        "lists": lists,
        "density": float(f"{interactions / (users * items):.6g}"),
        "first_day": _day(first),
        "last_day": _day(last),
        "share_of_items_without_year": rounded(no_year / items),
        "share_of_items_without_categories": rounded(no_categories / items),
    }


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _by_split(connection: Connection, query: str, columns: tuple[str, ...]) -> BySplit:
    """How often each value of each column of `query` occurs, by its column `split`."""
    connection.execute(f"CREATE TEMP TABLE counted AS {query}")
    found: BySplit = {}
    for column in columns:
        rows: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
        query = f"SELECT split, {column}::BIGINT, count(*) FROM counted GROUP BY ALL ORDER BY ALL"
        for split, value, count in connection.sql(query).fetchall():
            rows[split].append((value, count))
        found[column] = {split: Distribution(counted) for split, counted in rows.items()}
    connection.execute("DROP TABLE counted")
    return found


def _spreads(found: BySplit) -> Figures:
    return {column: merged(by.values()).spread() for column, by in found.items()}


def _split(split: str, users: BySplit, lists: BySplit) -> Figures:
    positives = lists["positives"][split]
    return {
        "users": users["interactions"][split].number,
        "interactions": users["interactions"][split].total,
        "profile_interactions": users["profile_interactions"][split].total,
        "lists": positives.number,
        "lists_without_a_positive": dict(positives.counted).get(0, 0),
        "positives": positives.total,
    }


def _ratings(connection: Connection) -> list[Figures]:
    """Interactions by rating: by value, or of more than `RATINGS` values by interval.

    An interval holds its lower end, the last one its upper end too.
    """
    query = "SELECT rating::DOUBLE, count(*) FROM interactions GROUP BY rating ORDER BY rating"
    rows = connection.sql(f"{query} LIMIT {RATINGS + 1}").fetchall()
    if len(rows) <= RATINGS:
        return [_bar(rating, rating, count) for rating, count in rows]
    query = "SELECT min(rating)::DOUBLE, max(rating)::DOUBLE FROM interactions"
    low, high = connection.sql(query).fetchall()[0]
    width = (high - low) / RATINGS
    query = """
        SELECT least(floor((rating::DOUBLE - $1) / $2)::INTEGER, $3 - 1) AS place, count(*)
        FROM interactions GROUP BY place
    """
    counts = dict(connection.sql(query, params=[low, width, RATINGS]).fetchall())
    return [
        _bar(low + place * width, low + (place + 1) * width, counts.get(place, 0))
        for place in range(RATINGS)
    ]


def _bar(low: float, high: float, count: int) -> Figures:
    return {"from": rounded(low), "to": rounded(high), "count": count}


def _per_item(connection: Connection) -> Figures:
    """Interactions per item, items without any included, and how few items hold how many."""
    query = """
        SELECT coalesce(number, 0) AS number, count(*) FROM items LEFT JOIN (
            SELECT item, count(*) AS number FROM interactions GROUP BY item
        ) USING (item) GROUP BY ALL ORDER BY ALL
    """
    found = Distribution(connection.sql(query).fetchall())
    return {
        "interactions": found.spread(),
        "gini": found.gini(),
        "most_popular": [
            {
                "share": share,
                "items": found.most(share),
                "interactions_share": found.held_by_most(share),
            }
            for share in CURVE
        ],
    }


def _prepared(prepared: Mapping[str, Any], lists: int, interactions: int) -> Figures:
    """The rows that were read, and what was left out of ratings, items, users and lists, and why.

    Candidate lists are the lists of the table and those that were dropped, except for the reasons
    `EARLIER`: the share of them without a positive says how many lists were of no use.
    """
    try:
        found = prepared["dropped"].items()
        dropped = {of: {str(why): int(n) for why, n in by.items()} for of, by in found}
        read = {name: int(prepared[name]) for name in ROWS if name in prepared}
        tied = int(prepared["tied"]) / interactions
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecError(f"prepare.json: no counts of what was dropped ({error!r})") from error
    reasons = {why: n for why, n in dropped.get("lists", {}).items() if why not in EARLIER}
    candidates, without = lists + sum(reasons.values()), reasons.get(NO_POSITIVE, 0)
    return {
        "candidate_lists": {
            "number": candidates,
            "without_a_positive": without,
            "share_without_a_positive": rounded(without / candidates),
        },
        "share_of_interactions_tied": rounded(tied),
        "rows_read": read,
        "dropped": dropped,
    }
