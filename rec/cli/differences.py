"""Two texts with what differs marked: side by side on a wide terminal, else one after the other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from textwrap import indent
from typing import TYPE_CHECKING

import click

from rec.cli.output import is_terminal, open_console, print_line
from rec.cli.text import plain, plain_lines

if TYPE_CHECKING:
    from rich.text import Text

NARROWEST = 80  # columns of a terminal that has room for two texts

_MARKS = (("[-", "-]"), ("{+", "+}"))  # of the left text and of the right one
_STYLES = ("bold red", "bold green")


@dataclass(frozen=True)
class Piece:
    """Words of a text, with the blanks before them, and whether the other text lacks them."""

    text: str
    differs: bool


Pieces = tuple[list[Piece], list[Piece]]


def differences(left: str, right: str) -> Pieces:
    """Both texts in pieces: those that differ, by words, are the ones that the other lacks.

    The texts of the pieces joined are the given texts. A comma or semicolon after a word is no
    difference.
    """
    words = [re.findall(r"\s*\S+|\s+$", text) for text in (left, right)]
    bare = [[_bare(word.strip()) for word in text] for text in words]
    found: Pieces = ([], [])
    for tag, *ends in SequenceMatcher(None, bare[0], bare[1], autojunk=False).get_opcodes():
        for pieces, text, (start, end) in zip(found, words, (ends[:2], ends[2:]), strict=True):
            if start < end:
                pieces.append(Piece("".join(text[start:end]), tag != "equal"))
    return found


def _bare(word: str) -> str:
    return word.rstrip(",;") or word


def print_texts(left: tuple[str, str], right: tuple[str, str]) -> None:
    """Print two texts, each given as its heading and itself, with what differs marked.

    A terminal of NARROWEST columns shows them beside each other, line by line where both have as
    many lines (as cards have). Marks are colours on a terminal, else [-words-] of the left text
    and {+words+} of the right.
    """
    headings = plain(left[0]), plain(right[0])
    rows = [differences(*row) for row in _rows(left[1], right[1])]
    if is_terminal():
        _print_rich(headings, rows)
        return
    for side, heading in enumerate(headings):
        print_line(f"{heading}:")
        text = "\n".join(_marked(row[side], *_MARKS[side]) for row in rows)
        click.echo(indent(text, "  "))


def _rows(left: str, right: str) -> list[tuple[str, str]]:
    """The texts line by line; as they are where one has more lines."""
    lines = plain_lines(left).splitlines(), plain_lines(right).splitlines()
    if len(lines[0]) == len(lines[1]):
        return list(zip(*lines, strict=True))
    return [("\n".join(lines[0]), "\n".join(lines[1]))]


def _marked(pieces: Sequence[Piece], opening: str, closing: str) -> str:
    shown = []
    for piece in pieces:
        words = piece.text.strip()
        marked = f"{opening}{words}{closing}" if piece.differs and words else words
        shown.append(piece.text.replace(words, marked, 1) if words else piece.text)
    return "".join(shown)


def _print_rich(headings: tuple[str, str], rows: Sequence[Pieces]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = open_console()
    cells = [[_coloured(row[side], _STYLES[side]) for row in rows] for side in (0, 1)]
    if console.width < NARROWEST:
        for heading, lines in zip(headings, cells, strict=True):
            console.print(Text(heading, "bold"), *lines, sep="\n")
        return
    table = Table(box=box.SIMPLE_HEAD, expand=True)
    for heading in headings:
        table.add_column(Text(heading), ratio=1, overflow="fold")
    for beside in zip(*cells, strict=True):
        table.add_row(*beside)
    console.print(table)


def _coloured(pieces: Sequence[Piece], style: str) -> Text:
    from rich.text import Text

    return Text.assemble(*((piece.text, style if piece.differs else "") for piece in pieces))
