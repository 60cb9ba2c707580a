"""Files of one table, of any format and in several parts, as one relation of DuckDB.

The relation has the columns that were asked for as c0, c1, ..., and file, row (its number in the
file) and sequence (its number over all files in their order). Parquet is read where it lies; text
goes through `rec.datasets.records` and a Parquet file in the work folder. No name of a column and
no value becomes part of a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl

from rec.database import registered
from rec.datasets.files import UNPARSEABLE, Found, one_line, unreadable, work_path
from rec.datasets.records import SEPARATOR, Faults, Records, normalise
from rec.datasets.text import add_faults, create_faults, literal
from rec.errors import RecError

if TYPE_CHECKING:
    from rec.datasets import Source

#: Formats by suffix; all but Parquet may be packed by gzip.
FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
SEPARATORS = {"csv": ",", "tsv": "\t", "jsonl": ""}
FAULTS = "table_files_faults"
SHOWN = 20  # names of columns in a message
#: What DuckDB adds to the columns of a Parquet file.
VIRTUAL = ("file_index", "file_row_number")


@dataclass(frozen=True)
class Column:
    """A column that is asked for, and the setting that names it, if one does."""

    name: str
    setting: str = ""
    optional: bool = False  # null where a file does not have it
    many: bool = False  # values of a text are parted by `separator`; a list is one already
    separator: str = ""


@dataclass(frozen=True)
class Cell:
    """A column of the relation, in SQL."""

    sql: str
    type: str


@dataclass(frozen=True)
class Table:
    """A relation, in SQL that stands after FROM, and its columns by the names that were asked for.

    What no file has is not among them.
    """

    relation: str
    cells: dict[tuple[str, bool], Cell]

    def get(self, name: str, many: bool = False) -> Cell | None:
        """The column called `name`; `many` as it was asked for."""
        return self.cells.get((name, many))


def file_format(name: str) -> str:
    """The format that a file's name tells, or ""."""
    bare = name.lower()
    found = FORMATS.get(Path(bare.removesuffix(".gz")).suffix, "")
    return "" if found == "parquet" and bare.endswith(".gz") else found


def open_table(
    source: Source, files: Sequence[Found], columns: Sequence[Column], relation: str
) -> Table:
    """The files, which are parts of one table. Lines that are no record are faults of `relation`.

    Raises RecError where a file is no table, or lacks a column.
    """
    create_faults(source.connection)
    formats = {file_format(found.name) for found in files}
    if "" in formats:
        name = next(found.name for found in files if not file_format(found.name))
        raise RecError(f"{name}: unknown format; expected {', '.join(FORMATS)} (text also .gz)")
    if len(formats) > 1:
        raise RecError(f"{files[0].name}, {files[-1].name}: parts of one table in two formats")
    asked = _merged(columns)
    if formats == {"parquet"}:
        return _parquet(source.connection, files, asked)
    return _text(source, files, asked, formats.pop(), relation)


def _merged(columns: Sequence[Column]) -> list[Column]:
    """The columns that are asked for, each once: optional if it is so wherever it is asked for."""
    merged: dict[tuple[str, bool], Column] = {}
    for column in columns:
        key = (column.name, column.many)
        before = merged.get(key, column)
        if column.name:
            merged[key] = replace(before, optional=before.optional and column.optional)
    return list(merged.values())


def _require(found: Found, names: Sequence[str], columns: Sequence[Column]) -> None:
    for column in columns:
        same = [name for name in names if name == column.name]
        if not same and not column.optional:
            shown = one_line(", ".join(names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
            advice = f": set {column.setting}" if column.setting else ""
            raise RecError(f"{found.name}: no column {column.name!r}; found {shown}{advice}")
        if len(same) > 1:
            raise RecError(f"{found.name}: more than one column {column.name!r}")


# Parquet


def _parquet(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Found], columns: Sequence[Column]
) -> Table:
    names: list[str] = []
    rows: list[int] = []
    for found in files:
        own, count = _footer(connection, found)
        _require(found, own, columns)
        _require_distinct(found, own, columns)
        names += own
        rows.append(count)
    if not sum(rows):
        raise RecError(f"{files[0].name}: the file is empty")
    present = [column for column in columns if column.name in names]
    published = [_identifier(column.name) for column in present]
    relation = _over(files, published, rows, "file_row_number + 1")
    try:
        described = connection.sql(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        read = ", ".join(f"bit_xor(hash(c{i}))" for i in range(len(present)))
        connection.sql(f"SELECT {read} FROM {relation}").fetchall()
    except duckdb.Error as error:
        raise unreadable(", ".join(found.name for found in files[:3]), error) from error
    types = {name: type_ for name, type_, *_ in described}
    return Table(relation, _cells(present, [types[f"c{i}"] for i in range(len(present))]))


def _footer(connection: duckdb.DuckDBPyConnection, found: Found) -> tuple[list[str], int]:
    """Names of the columns of a Parquet file, and how many rows it has."""
    path = found.path
    if not path.stat().st_size:
        raise RecError(f"{found.name}: the file is empty")
    place = literal(_escaped(path))
    try:
        schema = connection.sql(f"SELECT name, num_children FROM parquet_schema({place})")
        nodes = iter(schema.fetchall())
        ((count,),) = connection.sql(
            f"SELECT num_rows FROM parquet_file_metadata({place})"
        ).fetchall()
    except (duckdb.Error, ValueError) as error:
        reason = one_line(str(error)).replace(str(path), path.name)
        raise RecError(f"{found.name}: not a whole Parquet file ({reason[:200]})") from error
    _, width = next(nodes, ("", 0))
    names = [name for name in _top_level(nodes, width or 0) if name is not None]
    if not names or count < 0:
        raise RecError(f"{found.name}: not a whole Parquet file (no columns)")
    return names, int(count)


def _top_level(nodes: Iterator[tuple[str | None, int | None]], width: int) -> Iterator[str | None]:
    for _ in range(width):
        name, children = next(nodes, (None, None))
        if name is None:
            return
        for _ in _top_level(nodes, children or 0):
            pass
        yield name


def _require_distinct(found: Found, names: Sequence[str], columns: Sequence[Column]) -> None:
    """DuckDB does not tell names apart that differ in case alone."""
    lower = [name.lower() for name in names]
    for name in [*(column.name for column in columns), *VIRTUAL]:
        if lower.count(name.lower()) > (0 if name in VIRTUAL else 1):
            raise RecError(f"{found.name}: columns called {name!r} in two ways, or reserved")


def _over(files: Sequence[Found], columns: Sequence[str], rows: Sequence[int], row: str) -> str:
    """A query over Parquet files that have `rows` rows."""
    paths = ", ".join(literal(_escaped(found.path)) for found in files)
    names, before = literal(files[0].name), "0"
    if len(files) > 1:
        offsets = [0, *accumulate(rows)][:-1]
        index = "CAST(file_index + 1 AS BIGINT)"
        names = f"[{', '.join(literal(found.name) for found in files)}][{index}]"
        before = f"[{', '.join(f'CAST({offset} AS BIGINT)' for offset in offsets)}][{index}]"
    cells = "".join(f"{sql} AS c{i}, " for i, sql in enumerate(columns))
    return (
        f"(SELECT {cells}{names} AS file, CAST({row} AS BIGINT) AS row,"
        f" CAST({before} + {row} AS BIGINT) AS sequence"
        f" FROM read_parquet([{paths}], union_by_name = {len(files) > 1},"
        " hive_partitioning = false, binary_as_string = true))"
    )


def _cells(columns: Sequence[Column], types: Sequence[str]) -> dict[tuple[str, bool], Cell]:
    return {
        (column.name, column.many): Cell(f"c{i}", type_)
        for i, (column, type_) in enumerate(zip(columns, types, strict=True))
    }


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _escaped(path: Path) -> str:
    """A path in which no character is a wildcard."""
    return "".join(f"[{c}]" if c in "[*?" else c for c in str(path))


# Text


def _text(
    source: Source, files: Sequence[Found], columns: Sequence[Column], kind: str, relation: str
) -> Table:
    staged: list[Found] = []
    lines: list[int] = []
    present: set[int] = set()
    for found in files:
        take = _counter(source, found, relation)
        records = normalise(found, source.work, SEPARATORS[kind], take)
        split = _objects if kind == "jsonl" else _fields
        rows, cells = split(source.connection, found, records, columns)
        present |= {i for i, cell in enumerate(cells) if cell}
        path = _stage(source, found, rows, cells)
        value = f"replace(line, {literal(SEPARATOR)}, {literal(SEPARATORS[kind])})"
        add_faults(
            source.connection,
            f"SELECT {literal(relation)}, {literal(UNPARSEABLE)}, {literal(found.name)}, row,"
            f" {value} FROM {rows} WHERE NOT good",
        )
        records.path.unlink()
        staged.append(Found(found.name, path))
        lines.append(records.lines)
    relation_sql = _over(staged, [f"c{i}" for i in range(len(columns))], lines, "row")
    many = "VARCHAR[]" if kind == "jsonl" else "VARCHAR"
    cells_of = _cells(columns, [many if column.many else "VARCHAR" for column in columns])
    names = [(column.name, column.many) for i, column in enumerate(columns) if i in present]
    return Table(relation_sql, {name: cells_of[name] for name in names})


def _stage(source: Source, found: Found, rows: str, cells: Sequence[str]) -> Path:
    """Write the good rows to a Parquet file; a cell "" is one that the file does not have."""
    path = work_path(source.work, found.name, ".table.parquet")
    named = "".join(f"{sql or 'CAST(NULL AS VARCHAR)'} AS c{i}, " for i, sql in enumerate(cells))
    source.connection.execute(
        f"COPY (SELECT {named}row FROM {rows} WHERE good) TO {literal(str(path))} (FORMAT parquet)"
    )
    return path


def _counter(source: Source, found: Found, relation: str) -> Faults:
    """What appends the faults of a file to raw_faults."""

    def take(rows: list[tuple[str, int, str]]) -> None:
        schema = {"reason": pl.String, "row": pl.Int64, "value": pl.String}
        frame = pl.DataFrame(rows, schema=schema, orient="row")
        with registered(source.connection, FAULTS, frame):
            add_faults(
                source.connection,
                f"SELECT {literal(relation)}, reason, {literal(found.name)}, row, value"
                f" FROM {FAULTS}",
            )

    return take


def _fields(
    connection: duckdb.DuckDBPyConnection, found: Found, records: Records, columns: Sequence[Column]
) -> tuple[str, list[str]]:
    """The lines of delimited text with the column `good`, and the cells of a good one."""
    names = records.header
    _require(found, names, columns)
    rows = (
        f"(SELECT *, len(parts) = {len(names)} AS good FROM (SELECT row, line,"
        f" string_split(line, {literal(SEPARATOR)}) AS parts"
        f" FROM read_parquet({literal(_escaped(records.path))}) WHERE row > {records.header_line}))"
    )
    places = [names.index(c.name) + 1 if c.name in names else 0 for c in columns]
    return rows, [f"nullif(parts[{place}], '')" if place else "" for place in places]


def _objects(
    connection: duckdb.DuckDBPyConnection, found: Found, records: Records, columns: Sequence[Column]
) -> tuple[str, list[str]]:
    """The lines of JSON with the column `good`, and the cells of a good one."""
    rows = (
        "(SELECT *, coalesce(json_type(object) = 'OBJECT', false) AS good FROM (SELECT row, line,"
        " CASE WHEN json_valid(line) THEN CAST(line AS JSON) END AS object"
        f" FROM read_parquet({literal(_escaped(records.path))})))"
    )
    pointers = [literal("/" + c.name.replace("~", "~0").replace("/", "~1")) for c in columns]
    has = "".join(f", bool_or(json_exists(object, {pointer}))" for pointer in pointers)
    ((count, *there),) = connection.sql(f"SELECT count(*){has} FROM {rows} WHERE good").fetchall()
    if not count:
        raise RecError(f"{found.name}: no line is a JSON object")
    keys = (
        "SELECT DISTINCT unnest(json_keys(object)) AS key FROM"
        f" (SELECT object FROM {rows} WHERE good ORDER BY row LIMIT {SHOWN}) ORDER BY key"
    )
    known = [c.name for c, found_in in zip(columns, there, strict=True) if found_in]
    others = [key for (key,) in connection.sql(keys).fetchall() if key not in known]
    _require(found, known + others, columns)
    return rows, [
        _json_cell(pointer, column) if column.name in known else ""
        for pointer, column in zip(pointers, columns, strict=True)
    ]


def _json_cell(pointer: str, column: Column) -> str:
    text = f"nullif(json_extract_string(object, {pointer}), '')"
    if not column.many:
        return text
    parts = (
        f"string_split({text}, {literal(column.separator)})" if column.separator else f"[{text}]"
    )
    return (
        f"CASE WHEN json_type(object, {pointer}) = 'ARRAY' THEN"
        f""" from_json(json_extract(object, {pointer}), '["VARCHAR"]') ELSE {parts} END"""
    )
