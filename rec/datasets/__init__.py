"""One reader per family of data sets: published files in, relations of a DuckDB connection out.

A reader leaves three relations (tables, or views over files in the work folder), of whatever size:

| relation | one row | columns |
| --- | --- | --- |
| raw_ratings | an interaction as published | user, item, rating, timestamp (s), file, row |
| raw_items | an item as published | item, title, year, categories, about, file, row |
| raw_faults | a row that could not be read | relation, reason, file, row, value |

Where a shop logs what it showed, there is also raw_impressions: list, user, item, place, label,
timestamp, file, row (`rec.datasets.tabular`).

Every row of a file ends in exactly one of them, or in none if it is blank. Nothing is cleaned yet
(`rec.cleaning` does): an id may be missing, a rating be text. `about` is text that can stand in for
an unusable title, null where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from rec.config import Data
from rec.datasets import amazon, movielens, tabular
from rec.errors import RecError


@dataclass(frozen=True)
class Source:
    """What a reader is given."""

    path: Path  # the file or folder with the published files
    work: Path  # a folder for unpacked and converted files, removed after the stage
    data: Data
    connection: duckdb.DuckDBPyConnection


#: The relations and their columns; more than one type where text is cast when it is cleaned.
RELATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "raw_ratings": {
        "user": ("VARCHAR",),
        "item": ("VARCHAR",),
        "rating": ("VARCHAR", "FLOAT", "DOUBLE"),
        "timestamp": ("VARCHAR", "BIGINT"),
        "file": ("VARCHAR",),
        "row": ("BIGINT",),
    },
    "raw_items": {
        "item": ("VARCHAR",),
        "title": ("VARCHAR",),
        "year": ("INTEGER",),
        "categories": ("VARCHAR[]",),
        "about": ("VARCHAR",),
        "file": ("VARCHAR",),
        "row": ("BIGINT",),
    },
    "raw_faults": {
        "relation": ("VARCHAR",),
        "reason": ("VARCHAR",),
        "file": ("VARCHAR",),
        "row": ("BIGINT",),
        "value": ("VARCHAR",),
    },
}

READERS: dict[str, Callable[[Source], None]] = {
    "movielens": movielens.read,
    "amazon": amazon.read,
    "tabular": tabular.read,
}


def read(source: Source) -> None:
    """Leave a data set in the connection.

    Raises RecError, in one line with file and what is wrong, where a file is missing, empty or not
    in the reader's format.
    """
    reader = source.data.reader
    if reader not in READERS:
        raise RecError(f"data.reader: {reader!r} is not one of {', '.join(READERS)}")
    if not source.path.exists():
        raise RecError(f"{source.path}: no such file or folder; check data.path, or `dvc repro`")
    READERS[reader](source)
    _check_relations(source.connection)


def _check_relations(connection: duckdb.DuckDBPyConnection) -> None:
    for relation, columns in RELATIONS.items():
        found = {name: kind for name, kind, *_ in connection.sql(f"DESCRIBE {relation}").fetchall()}
        for column, kinds in columns.items():
            if found.get(column) not in kinds:
                raise TypeError(f"{relation}.{column} is {found.get(column)}; it must be {kinds}")
