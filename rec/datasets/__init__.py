"""One reader per family of data sets: published files in, the tables RATINGS and ITEMS out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from rec.datasets import movielens
from rec.errors import RecError
from rec.tables import ITEMS, RATINGS, check_schema

Reader = Callable[[Path], tuple[pl.DataFrame, pl.DataFrame]]

READERS: dict[str, Reader] = {"movielens": movielens.read}


def read(reader: str, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read the files of a data set: (ratings, items), with the schemas RATINGS and ITEMS.

    Nothing is cleaned yet (`rec.interactions` does). Raises RecError, in one line with file, row
    and value, where a file is missing, empty or not in the reader's format.
    """
    if reader not in READERS:
        raise RecError(f"data.reader: {reader!r} is not one of {', '.join(READERS)}")
    if not folder.is_dir():
        raise RecError(f"{folder}: no such folder; run the stage fetch (`dvc repro`)")
    ratings, items = READERS[reader](folder)
    return check_schema(ratings, RATINGS, "ratings"), check_schema(items, ITEMS, "items")
