"""Read a data set with one reader and look at the three relations that it leaves."""

from __future__ import annotations

import importlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import duckdb
import polars as pl

from rec.config import Data
from rec.datasets import RELATIONS, Source


class Relations(NamedTuple):
    """What a reader left, each sorted by file and row."""

    ratings: pl.DataFrame
    items: pl.DataFrame
    faults: pl.DataFrame


def read_all(path: Path, reader: str, **data: Any) -> Relations:
    """Run the reader `rec.datasets.<reader>` on `path`; `data` are fields of `Data`.

    Also checks that the relations have the columns and types of the contract.
    """
    with TemporaryDirectory() as work, duckdb.connect() as connection:
        read = importlib.import_module(f"rec.datasets.{reader}").read
        read(Source(path, Path(work), settings(path, reader, **data), connection))
        frames = {}
        for relation, columns in RELATIONS.items():
            described = connection.sql(f"DESCRIBE {relation}").fetchall()
            types = {name: type_ for name, type_, *_ in described}
            assert list(types) == list(columns), (relation, types)
            assert all(types[name] in columns[name] for name in columns), (relation, types)
            frames[relation] = connection.sql(f"FROM {relation}").pl().sort("file", "row")
    return Relations(frames["raw_ratings"], frames["raw_items"], frames["raw_faults"])


def settings(path: Path, reader: str, **data: Any) -> Data:
    """A data set's settings: ratings from 1 to 5, and what `data` says."""
    values: dict[str, Any] = {
        "name": "test",
        "domain": "films",
        "reader": reader,
        "source": "local",
        "path": str(path),
        "rating_minimum": 1.0,
        "rating_maximum": 5.0,
        "positive_rating": 4.0,
        "bad_rows": 0.5,
    }
    return Data(**(values | data))
