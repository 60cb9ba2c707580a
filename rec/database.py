"""A DuckDB connection that keeps to a memory limit and spills to a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl

from rec.errors import RecError
from rec.machine import available_memory, cores

SIZE = re.compile(r"[0-9]+(\.[0-9]+)? ?[KMGT]i?B", re.IGNORECASE)


@contextmanager
def connect(
    work: Path, memory_limit: str = "", threads: int | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with its tables and what it spills in `work`.

    `memory_limit` is DuckDB's ("4GB"), beside which a range of users takes about 1 GB; "" is half
    of what is free. Raises RecError for one that is wrong or too little.
    """
    limit = memory_limit or f"{available_memory() // 2**21}MB"
    with duckdb.connect(work / "tables.duckdb") as connection:
        try:
            if not SIZE.fullmatch(limit):  # DuckDB takes "-" for no limit
                raise ValueError(limit)
            connection.execute("SET memory_limit = $1", [limit])
        except (ValueError, duckdb.Error) as error:
            raise RecError(f"machine.memory_limit: {limit!r} must be such as 4GB") from error
        connection.execute("SET threads = $1", [threads or cores()])
        connection.execute("SET temp_directory = $1", [str(work / "spill")])
        connection.execute("SET preserve_insertion_order = false")
        try:
            yield connection
        except duckdb.OutOfMemoryException as error:
            reason = str(error).splitlines()[0]
            raise RecError(f"machine.memory_limit: {limit} is too little ({reason})") from error


@contextmanager
def registered(
    connection: duckdb.DuckDBPyConnection, name: str, table: pl.DataFrame
) -> Iterator[None]:
    """Let queries use a table as the relation `name`."""
    connection.register(name, table.to_arrow())
    try:
        yield
    finally:
        connection.unregister(name)
