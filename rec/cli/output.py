"""What commands print: records as a table, one JSON document or JSON lines, and streamed text.

A command takes `@format_option`, makes records (mappings of JSON values, dates and paths) and hands
them to `print_records` with the columns of its table:

    COLUMNS = (Column("user", "user"), Column("margin", "margin", "{:.3f}".format, right=True))

    @click.command()
    @format_option
    @verbose_option
    def show(form: Form) -> None:
        print_records(records, COLUMNS, form, title="Pairs", notes=["2 of 24"])

JSON holds whole records, the table only its columns. What is printed may be text of data sets and
models: nothing in it is markup or a command to the terminal.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from rec.cli.text import escaped, plain, plain_lines

if TYPE_CHECKING:
    from rich.console import Console

#: The fewest columns that a terminal is taken to have; those of a column that folds or is cut.
SMALLEST = 40
_FOLDED, _CUT = 18, 12
_BETWEEN = 3  # places that each column of a table adds on a terminal

_WITHOUT_COLOURS = ("dumb", "unknown")  # values of TERM

F = TypeVar("F", bound=Callable[..., Any])
Record = Mapping[str, Any]
Form = Literal["table", "json", "jsonl"]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)


@dataclass(frozen=True)
class Column:
    """A column of a table: the records' key, the heading, and how a value is written.

    None is a dash; without `write` a list is its values with commas.
    """

    key: str
    title: str
    write: Callable[[Any], str] = _text
    right: bool = False  # where the values stand: numbers at the right
    cut: int | None = None  # characters that are enough: a narrow terminal shows less, a wide more
    styles: Mapping[str, str] = field(default_factory=dict)  # of cells, on a terminal (rich's)

    def cell(self, record: Record) -> str:
        """The record's value on one line; empty where the record lacks the key."""
        if self.key not in record:
            return ""
        value = record[self.key]
        return plain(_text(value) if value is None else self.write(value))


def format_option(function: F) -> F:
    """The option --format of a command, which gets it as `form`."""
    option = click.option(
        "--format",
        "form",
        type=click.Choice(["table", "json", "jsonl"]),
        default="table",
        show_default=True,
        help="A table, one JSON document, or JSON lines.",
    )
    return option(function)


def is_terminal() -> bool:
    """Whether stdout is a terminal, where tables have colours and lines; one that has colours."""
    return sys.stdout.isatty() and os.environ.get("TERM", "").lower() not in _WITHOUT_COLOURS


def open_console() -> Console:
    """The terminal, of SMALLEST columns at least."""
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, SMALLEST)
    return console


def print_records(
    records: Iterable[Record],
    columns: Sequence[Column],
    form: Form,
    *,
    title: str = "",
    notes: Iterable[str] = (),
    total: Record | None = None,
    document: Any = None,
) -> None:
    """Print records in the form that was asked for.

    table: `title`, the columns, a last line `total`, and `notes`, each on a line of its own; by
    rich on a terminal (a block per record where it is narrow), else columns of blanks. json:
    `document`, or else the list of all records. jsonl: a line per record, each written as soon as
    `records` yields it.
    """
    if form == "jsonl":
        for record in records:
            click.echo(_json(record))
        return
    if form == "json":
        print_document(list(records) if document is None else document)
        return
    if title:
        print_line(title)
    rows = [[column.cell(record) for column in columns] for record in records]
    foot = [column.cell(total) for column in columns] if total is not None else None
    try:
        (_print_rich if is_terminal() else _print_plain)(columns, rows, foot)
    except ModuleNotFoundError:  # `rec doctor` says so, and must
        _print_plain(columns, rows, foot)
    for note in notes:
        print_line(note)


def print_document(value: Any) -> None:
    """Print a value as one indented JSON document. Numbers that JSON lacks become null."""
    click.echo(_json(value, indent=2))


def print_line(text: str) -> None:
    """Print text as one line."""
    click.echo(plain(text))


def say(text: str) -> None:
    """Print a line on stderr: what was done or chosen, and is no part of the result."""
    click.echo(plain(text), err=True)


def stream_text(pieces: Iterable[str]) -> str:
    """Print text as its pieces come, a line break at the end; the whole text as it came."""
    whole = []
    for piece in pieces:
        whole.append(piece)
        click.echo(plain_lines(piece), nl=False)
    text = "".join(whole)
    if not text.endswith("\n"):
        click.echo()
    return text


def _json(value: Any, indent: int | None = None) -> str:
    options: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False, "default": _other}
    return escaped(json.dumps(_finite(value), indent=indent, **options))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value


def _other(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is no JSON value")


def _print_plain(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], foot: Sequence[str] | None
) -> None:
    body = [list(map(_cut, columns, row)) for row in rows]
    lines = [[column.title for column in columns], *body, *([foot] if foot else [])]
    widths = _widths(columns, lines[1:])
    for line in lines:
        shown = []
        for column, cell, width in zip(columns, line, widths, strict=True):
            blanks = " " * (width - _places(cell))
            shown.append(blanks + cell if column.right else cell + blanks)
        click.echo("  ".join(shown).rstrip())


def _places(text: str) -> int:
    """The places that text takes on a terminal; its characters where rich is missing."""
    try:
        from rich.cells import cell_len
    except ModuleNotFoundError:
        return len(text)
    return cell_len(text)


def _cut(column: Column, cell: str) -> str:
    return f"{cell[: column.cut - 1]}…" if column.cut and len(cell) > column.cut else cell


def _print_rich(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], foot: Sequence[str] | None
) -> None:
    console, whole = open_console(), [*rows, *([foot] if foot else [])]
    widths = _widths(columns, whole)
    if sum(map(_least, columns, widths)) + _BETWEEN * len(columns) > console.width:
        _print_blocks(console, columns, whole)
    else:
        _print_table(console, columns, widths, rows, foot)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    """The places that each column takes."""
    lines = [[column.title for column in columns], *rows]
    return [max(map(_places, cells)) for cells in zip(*lines, strict=True)]


def _least(column: Column, width: int) -> int:
    """The places without which a column cannot be read."""
    return width if column.right else min(width, _CUT if column.cut else _FOLDED)


def _print_blocks(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]]
) -> None:
    """Print records one below the other, a line per column."""
    from rich.table import Table
    from rich.text import Text

    longest = max(_places(column.title) for column in columns)
    for row in rows:
        block = Table.grid(padding=(0, 2))
        block.add_column(no_wrap=True, min_width=longest)
        block.add_column(overflow="fold")
        for column, cell in zip(columns, row, strict=True):
            shown = Text(cell, column.styles.get(cell, ""))
            if column.cut:
                shown.no_wrap, shown.overflow = True, "ellipsis"
            if cell:
                block.add_row(Text(column.title, "bold"), shown)
        console.print(block)
        console.print()


def _print_table(
    console: Console,
    columns: Sequence[Column],
    widths: Sequence[int],
    rows: Sequence[Sequence[str]],
    foot: Sequence[str] | None,
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    stretched = any(column.cut for column in columns)
    table = Table(box=box.SIMPLE_HEAD, show_footer=foot is not None, expand=stretched)
    for column, width, cell in zip(columns, widths, foot or [""] * len(columns), strict=True):
        one_line = column.cut is not None or _least(column, width) == width
        table.add_column(
            Text(column.title),
            Text(cell),
            justify="right" if column.right else "left",
            no_wrap=one_line,
            overflow="ellipsis" if one_line else "fold",
            ratio=1 if column.cut else None,  # takes what the others leave
        )
    for row in rows:
        cells = zip(columns, row, strict=True)
        table.add_row(*(Text(cell, column.styles.get(cell, "")) for column, cell in cells))
    console.print(table)
