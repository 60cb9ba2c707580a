"""Delimited text, one record a line, into DuckDB: no line is lost and none is read twice.

The lines go through a Parquet file in the work folder, so that a file may be larger than memory. A
line that is no record becomes a row of raw_faults with the number that it has in the file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl

from rec.datasets.files import (
    CHUNK_BYTES,
    UNPARSEABLE,
    UNREADABLE,
    WRONG_ENCODING,
    Found,
    one_line,
    open_unpacked,
    unreadable,
    work_path,
)
from rec.errors import RecError

if TYPE_CHECKING:
    from rec.datasets import Source

#: Characters of a faulty line that are kept.
VALUE_LENGTH = 200
#: What stands for bytes that are no text.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BYTE_ORDER_MARK = "\ufeff"
#: What is made of the columns row and line.
Steps = Callable[[pl.LazyFrame], pl.LazyFrame]
HEADER_BYTES = 1 << 16


def delimited(
    source: Source,
    found: Found,
    fields: Sequence[str],
    separator: str,
    relation: str,
    encoding: str = "utf-8",
    skip: int = 0,
) -> str:
    """Split the lines of a file; the name of a view with the fields as text, file and row.

    `fields` names the fields of a line in order; one called "" is passed over, none may be called
    line, row or fault. An empty value is null. `encoding` is that of a file that is not UTF-8.
    `skip` lines at the start are a header. A line with more or fewer fields becomes a fault of
    `relation`. Raises RecError where the file has no lines.
    """
    connection = source.connection
    create_faults(connection)
    path = _split_lines(found, source.work, _splitter(separator, fields), encoding, skip)
    view = "text_" + re.sub(r"[^A-Za-z0-9]", "_", path.stem)
    columns = ", ".join(f'"{name}"' for name in fields if name)
    split = f"read_parquet({literal(str(path))})"
    connection.execute(
        f"CREATE OR REPLACE VIEW {view} AS SELECT {columns}, {literal(found.name)} AS file, row"
        f" FROM {split} WHERE fault IS NULL"
    )
    add_faults(
        connection,
        f"SELECT {literal(relation)}, fault, {literal(found.name)}, row, line FROM {split}"
        " WHERE fault IS NOT NULL",
    )
    return view


def header(found: Found, separator: str, names: Mapping[str, str]) -> list[str]:
    """The fields of a file with a header, for `delimited`: `names` gives ours for published ones.

    A published name ends before a colon (RecBole's types). Raises RecError where one is missing.
    """
    try:
        with open_unpacked(found.path) as file:
            line = file.readline(HEADER_BYTES).decode("utf-8-sig", "replace").rstrip("\r\n")
    except UNREADABLE as error:
        raise unreadable(found.name, error) from error
    if not line.strip():
        raise RecError(f"{found.name}: the file is empty, or its first line is")
    published = [field.partition(":")[0].strip() for field in line.split(separator)]
    for name in names:
        if published.count(name) != 1:
            number = "no column" if name not in published else "more than one column"
            shown = one_line(", ".join(published)[:VALUE_LENGTH])
            raise RecError(f"{found.name}: row 1: {number} {name!r}; found {shown}")
    return [names.get(name, "") for name in published]


def _split_lines(found: Found, work: Path, steps: Steps, encoding: str, skip: int) -> Path:
    """Write the lines that are not blank to a Parquet file: what `steps` make of row and line.

    `row` counts all lines of the file, from 1. Bytes that are not text in UTF-8 and in `encoding`
    become U+FFFD. Raises RecError where no line is left after the first `skip`.
    """
    work.mkdir(parents=True, exist_ok=True)
    path = work_path(work, found.name, ".lines.parquet")
    try:
        _sink(found.path, path, steps, skip)
    except (pl.exceptions.PolarsError, OSError):
        # Not the same path again: Polars may still be writing there after it has failed.
        path = work_path(work, found.name, ".converted.parquet")
        converted = _converted(found, work, encoding)
        try:
            _sink(converted, path, steps, skip)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise unreadable(found.name, error) from error
        finally:
            converted.unlink(missing_ok=True)
    if not pl.scan_parquet(path, glob=False).select(pl.len()).collect().item():
        raise RecError(f"{found.name}: the file is empty")
    return path


def create_faults(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the table raw_faults unless it is there."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS raw_faults"
        " (relation VARCHAR, reason VARCHAR, file VARCHAR, row BIGINT, value VARCHAR)"
    )


def add_faults(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Append the rows of `query` (relation, reason, file, row, value) to raw_faults."""
    connection.execute(
        "INSERT INTO raw_faults SELECT relation, reason, file, row,"
        f" left(value, {VALUE_LENGTH}) FROM ({query}) AS faults(relation, reason, file, row, value)"
    )


def literal(text: str) -> str:
    """`text` as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _splitter(separator: str, fields: Sequence[str]) -> Steps:
    """From row and line to the fields, row, `fault` (null for a record) and the line of a fault."""
    parts = [f"part_{number}" for number in range(len(fields) + 1)]  # the last: one too many
    split = pl.col("line").str.split_exact(separator, len(fields)).struct.rename_fields(parts)
    whole = pl.col(parts[-2]).is_not_null() & pl.col(parts[-1]).is_null()
    fault = (
        pl.when(pl.col("line").str.contains(REPLACEMENT, literal=True))
        .then(pl.lit(WRONG_ENCODING))
        .when(~whole)
        .then(pl.lit(UNPARSEABLE))
    )
    good = pl.col("fault").is_null()
    named = {name: pl.col(part) for name, part in zip(fields, parts, strict=False) if name}
    cells = [pl.when(good & (cell != "")).then(cell).alias(name) for name, cell in named.items()]

    def steps(lines: pl.LazyFrame) -> pl.LazyFrame:
        split_lines = lines.with_columns(split.alias("parts")).unnest("parts")
        return split_lines.with_columns(fault=fault).select(
            *cells, "fault", "row", line=pl.when(~good).then("line")
        )

    return steps


def _sink(file: Path, path: Path, steps: Steps, skip: int) -> None:
    line = pl.col("line")
    mark = (pl.col("row") == 1) & line.str.starts_with(BYTE_ORDER_MARK)
    lines = (
        pl.scan_lines(file, glob=False)
        .with_row_index("row", 1)
        .with_columns(pl.when(mark).then(line.str.slice(1)).otherwise(line).alias("line"))
        .filter((pl.col("row") > skip) & (line.str.strip_chars() != ""))
        .with_columns(pl.col("row").cast(pl.Int64))
    )
    lines.pipe(steps).sink_parquet(path, compression="lz4", statistics=False, maintain_order=False)


def _converted(found: Found, work: Path, encoding: str) -> Path:
    """The file as UTF-8, without a byte order mark."""
    path = work_path(work, found.name, ".utf8")
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    try:
        with open_unpacked(found.path) as file, path.open("wb") as converted:
            start = file.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8)
            converted.write(decoder.decode(start).encode())
            while chunk := file.read(CHUNK_BYTES):
                converted.write(decoder.decode(chunk).encode())
            converted.write(decoder.decode(b"", final=True).encode())
    except UNREADABLE as error:
        raise unreadable(found.name, error) from error
    return path
