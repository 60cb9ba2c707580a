"""Files with an object on each line, as JSON or as a Python literal, into DuckDB.

A file passes through memory in blocks of lines: Python unpacks and splits them (so a damaged file
is noticed, and each line keeps its number), DuckDB parses the JSON. Python literals are first made
JSON, by exchanging their quotes where that is exact and with `ast.literal_eval` elsewhere.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO, cast

import duckdb
import polars as pl

from rec.database import registered
from rec.datasets.files import UNPARSEABLE, UNREADABLE, Found, unreadable
from rec.datasets.text import VALUE_LENGTH, add_faults, create_faults, literal
from rec.errors import RecError
from rec.progress import bar

BLOCK_BYTES = 1 << 24
LINE_BYTES = 1 << 26  # a longer line means that the file is something else
BYTE_ORDER_MARK = "\ufeff"
#: What tells a literal from JSON: the quote of a line's first key.
FIRST_QUOTE = re.compile(r"\s*\{\s*[uU]?(['\"])")
#: Where a word could be a value. Literals and JSON do not know the same words.
WORD = re.compile(r"[:\[,{(]\s*[-+]?(?:null|true|false|nan|inf)", re.IGNORECASE)
#: What `ast.literal_eval` raises for a text that it refuses.
REFUSED = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)

#: The fields of a block; null where a line is no object. `line` is null if it cannot be JSON.
PARSED = """
    CREATE OR REPLACE TEMP TABLE json_lines_parsed AS
    SELECT row,
        CASE WHEN whole THEN {extract}(line, {paths}) END AS fields,
        CASE WHEN NOT whole THEN left(coalesce(shown, line), {length}) END AS value
    FROM (
        FROM json_lines_block SELECT *,
            coalesce(json_valid(line) AND left(ltrim(line, E' \\t\\r'), 1) = '{{', false) AS whole
    )
"""
SCHEMA = {"row": pl.Int64, "line": pl.String, "shown": pl.String}


@dataclass(frozen=True)
class Block:
    """Consecutive lines of a file. None stands for a line whose bytes are not text."""

    rows: list[int]
    lines: list[str | None]
    shown: list[str | None]  # of a line that is not text or not JSON: what to show of it
    done: int  # bytes of the file on disk, up to here


def objects(
    connection: duckdb.DuckDBPyConnection,
    found: Found,
    names: Sequence[str],
    relation: str,
    *,
    as_json: bool = False,
    literals: bool | None = None,
) -> Iterator[str]:
    """Read a file block by block; the name of a table with its lines: row, fields.

    `fields` lists the values of the keys `names`: as text (null where missing), or as JSON. It
    replaces the last block's table. Lines that are not objects become faults of `relation`, and
    have null. `literals` says whether lines are Python literals; None looks at the first line.
    Raises RecError where the file cannot be read or has no lines.
    """
    create_faults(connection)
    extract = "json_extract" if as_json else "json_extract_string"
    paths = "[" + ", ".join(literal(f'$."{name}"') for name in names) + "]"
    query = PARSED.format(extract=extract, paths=paths, length=VALUE_LENGTH)
    empty = True
    for block in _with_bar(found, relation):
        if literals is None:
            literals = _are_literals(block)
        if literals:
            _to_json(connection, block, frozenset(names))
        empty = empty and not block.rows
        table = pl.DataFrame([block.rows, block.lines, block.shown], SCHEMA)
        with registered(connection, "json_lines_block", table):
            connection.execute(query)
        _add_faults(connection, found, relation)
        yield "json_lines_parsed"
        connection.execute("DROP TABLE json_lines_parsed")
    if empty:
        raise RecError(f"{found.name}: the file is empty")


def _add_faults(connection: duckdb.DuckDBPyConnection, found: Found, relation: str) -> None:
    add_faults(
        connection,
        f"SELECT {literal(relation)}, '{UNPARSEABLE}', {literal(found.name)}, row, value"
        " FROM json_lines_parsed WHERE fields IS NULL ORDER BY row",
    )


def _with_bar(found: Found, relation: str) -> Iterator[Block]:
    """The file's blocks, one of them prepared while another is worked on."""
    size = found.path.stat().st_size
    blocks = _blocks(found)
    with bar(f"{relation} of {found.name}", size, "B") as progress, ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = ahead.submit(next, blocks, None)
            yield block
            progress.update(block.done - progress.n)


def _blocks(found: Found) -> Iterator[Block]:
    row = 1
    rest = b""
    try:
        with found.path.open("rb") as packed, _unpacked(found, packed) as file:
            while chunk := file.read(BLOCK_BYTES):
                rest += chunk
                head, end, tail = rest.rpartition(b"\n")
                if end:
                    block = _block(head, row, packed.tell())
                    row += head.count(b"\n") + 1
                    rest = tail
                    yield block
                if len(rest) > LINE_BYTES:
                    raise RecError(f"{found.name}: row {row} is longer than {LINE_BYTES} bytes")
            if rest:
                yield _block(rest, row, packed.tell())
    except UNREADABLE as error:
        raise unreadable(found.name, error) from error


def _unpacked(found: Found, file: BinaryIO) -> BinaryIO:
    """The file's text: unpacked if its name or its first bytes say gzip."""
    magic = file.read(2)
    file.seek(0)
    if not found.path.name.endswith(".gz") and magic != b"\x1f\x8b":
        return file
    return cast(BinaryIO, gzip.GzipFile(fileobj=file))


def _block(text: bytes, first: int, done: int) -> Block:
    lines: list[str | None]
    shown: dict[int, str] = {}
    try:
        lines = list(text.decode().split("\n"))
    except UnicodeDecodeError:
        lines = []
        for i, line in enumerate(text.split(b"\n")):
            try:
                lines.append(line.decode())
            except UnicodeDecodeError:
                lines.append(None)
                shown[i] = line[: 4 * VALUE_LENGTH].decode(errors="replace")
    if first == 1 and lines[0] is not None:
        lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
    kept = [i for i, line in enumerate(lines) if line is None or (line and not line.isspace())]
    rows = [first + i for i in kept]
    return Block(rows, [lines[i] for i in kept], [shown.get(i) for i in kept], done)


def _are_literals(block: Block) -> bool | None:
    """Whether the first line that tells is a Python literal; None where no line tells."""
    matches = (FIRST_QUOTE.match(line) for line in block.lines if line is not None)
    first = next((match for match in matches if match), None)
    return None if first is None else first[1] == "'"


def _to_json(connection: duckdb.DuckDBPyConnection, block: Block, names: frozenset[str]) -> None:
    """Replace the block's Python literals by JSON; None for those that are no literals."""
    exchanged = [None if line is None else _exchanged(line) for line in block.lines]
    table = pl.DataFrame({"line": exchanged}, {"line": pl.String})
    with registered(connection, "json_lines_exchanged", table), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python does not know
        query = "SELECT json_valid(line) FROM json_lines_exchanged"
        valid = chain.from_iterable(connection.execute(query).fetchall())
        for i, exact in enumerate(valid):
            line = block.lines[i]
            if line is not None:
                block.lines[i] = exchanged[i] if exact else _evaluated(line, names)
                block.shown[i] = line[:VALUE_LENGTH]


def _exchanged(line: str) -> str | None:
    """A literal with the quotes of JSON; None where that might change what it means.

    Strings without double quotes and escapes stay the same; what is no JSON then is found later.
    """
    if '"' in line or "\\" in line or WORD.search(line):
        return None
    return line.replace("'", '"')


def _evaluated(line: str, names: frozenset[str]) -> str | None:
    """The fields `names` of a literal as JSON; None where it is no dictionary."""
    try:
        value: Any = ast.literal_eval(line.strip())
        if not isinstance(value, dict):
            return None
        kept = {name: value[name] for name in names if name in value}
        text = json.dumps(kept, ensure_ascii=False, default=str, skipkeys=True)
    except REFUSED:
        return None
    # Halves of a surrogate pair, as old Pythons wrote them, become one character.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
