"""Prepared data from rows: what a reader would leave, through the whole preparation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import duckdb
import polars as pl

from rec.cleaning import Rejects
from rec.config import Data, Prepare, protocols
from rec.database import connect
from rec.preparation import prepare_tables
from rec.tables import (
    INTERACTIONS,
    ITEMS,
    LISTS,
    REJECTS,
    USERS,
    Schema,
    TablePaths,
    check_schema,
    read_table,
)
from tests.datasets.reading import settings

SEED = 2026
DATA = settings(Path("absent"), "movielens")
PREPARE = Prepare(
    users=None,
    minimum_interactions=2,
    minimum_item_interactions=1,
    profile_interactions=30,
    list_interactions=2,
    list_size=4,
    lists_per_user=None,
    negatives=["popularity"],
    popularity_exponent=0.75,
    valid_share=0.3,
    test_share=0.3,
)
#: user, item, rating, timestamp
Row = tuple[str | None, str | None, float | str | None, int | str | None]
#: item, title, about
Item = tuple[str | None, str | None, str | None]
#: relation, reason, file, row, value
Fault = tuple[str, str, str, int, str]
Fill = Callable[[duckdb.DuckDBPyConnection, Path], None]

RATINGS = dict.fromkeys(("user", "item", "rating", "timestamp"), pl.String) | {
    "file": pl.String,
    "row": pl.Int64,
}
RAW_ITEMS: Schema = {
    "item": pl.String,
    "title": pl.String,
    "year": pl.Int32,
    "categories": pl.List(pl.String),
    "about": pl.String,
    "file": pl.String,
    "row": pl.Int64,
}
FAULTS = dict.fromkeys(("relation", "reason", "file"), pl.String) | {
    "row": pl.Int64,
    "value": pl.String,
}


class Prepared(NamedTuple):
    """The tables of a preparation, their files' bytes, and what was counted."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    lists: pl.DataFrame
    summary: dict[str, Any]
    rejects: pl.DataFrame
    further: dict[str, pl.DataFrame]  # lists of each further protocol
    files: dict[str, bytes]

    def without_files(self) -> tuple[Any, ...]:
        """All but the bytes, to compare: frames as rows."""
        return (*self.content(), self.rejects.rows())

    def content(self) -> tuple[Any, ...]:
        """The tables and counts, without the rejects, whose rows name places in the files."""
        frames = (self.interactions, self.items, self.users, self.lists, *self.further.values())
        return (*(frame.rows() for frame in frames), self.summary)


def ratings_of(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows of one file as a reader leaves them, numbered from 1."""
    texts = [
        (*(None if value is None else str(value) for value in row), "ratings", number)
        for number, row in enumerate(rows, 1)
    ]
    return pl.DataFrame(texts, schema=RATINGS, orient="row")


def items_of(*rows: str | Item) -> pl.DataFrame:
    """Items by id, with a title of their own; or rows of item, title and about."""
    table = [
        (row, f"Film {row}", 1999, ["Drama"], None, "items", number)
        if isinstance(row, str)
        else (row[0], row[1], None, None, row[2], "items", number)
        for number, row in enumerate(rows, 1)
    ]
    return pl.DataFrame(table, schema=dict(RAW_ITEMS), orient="row")


def fill(
    connection: duckdb.DuckDBPyConnection,
    ratings: pl.DataFrame,
    items: pl.DataFrame,
    faults: Sequence[Fault] = (),
) -> None:
    """Leave the three raw relations in the connection."""
    frames = {
        "raw_ratings": ratings,
        "raw_items": items,
        "raw_faults": pl.DataFrame(list(faults), schema=FAULTS, orient="row"),
    }
    for name, frame in frames.items():
        connection.register("arrow", frame.to_arrow())
        connection.execute(f"CREATE TABLE {name} AS FROM arrow")
        connection.unregister("arrow")


def prepare_rows(
    ratings: pl.DataFrame | Sequence[Row],
    items: pl.DataFrame,
    prepare: Prepare = PREPARE,
    data: Data = DATA,
    *,
    faults: Sequence[Fault] = (),
    **options: Any,
) -> Prepared:
    """Prepare rows of ratings; `options` are those of `prepare_filled`."""
    frame = ratings if isinstance(ratings, pl.DataFrame) else ratings_of(ratings)
    return prepare_filled(
        lambda connection, _: fill(connection, frame, items, faults), prepare, data, **options
    )


def prepare_filled(
    reader: Fill,
    prepare: Prepare = PREPARE,
    data: Data = DATA,
    *,
    seed: int = SEED,
    memory_limit: str = "1GB",
    threads: int = 2,
) -> Prepared:
    """Prepare what `reader` leaves in a fresh connection."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        schemas = {"interactions": INTERACTIONS, "items": ITEMS, "users": USERS, "lists": LISTS}
        paths = {name: work / f"{name}.parquet" for name in schemas}
        others = protocols(data, prepare)[1:]
        further = {name: work / f"lists-{name}.parquet" for name in others}
        with connect(work, memory_limit, threads) as connection:
            reader(connection, work)
            summary, rejects = prepare_tables(
                connection, TablePaths(**paths, further=further), work, data, prepare, seed
            )
        tables = {name: read_table(paths[name], schema) for name, schema in schemas.items()}
        lists = {name: read_table(path, LISTS) for name, path in further.items()}
        files = {name: path.read_bytes() for name, path in (paths | further).items()}
    assert isinstance(rejects, Rejects)
    left_out = check_schema(rejects.table(), REJECTS, "rejects")
    return Prepared(**tables, summary=summary, rejects=left_out, further=lists, files=files)


def regular(users: int = 40, interactions: int = 12, rating: float = 5.0) -> list[Row]:
    """Users with distinct histories of items i00 to i24, of which every list has a positive."""
    return [
        (f"u{u}", f"i{(u * 7 + i) % 25:02}", rating, i + 1)
        for u in range(users)
        for i in range(interactions)
    ]


FILMS = items_of(*(f"i{i:02}" for i in range(25)))


def tie(user: str, item: str) -> int:
    """What orders the interactions of one time: SplitMix64 of SHA-256s, written anew."""

    def key(name: str) -> int:
        return int(hashlib.sha256(f"{SEED}:tie:{name}".encode()).hexdigest()[:16], 16)

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    return mix(key(user) ^ mix(key(item)))
