"""A table of the report."""

from __future__ import annotations

from dataclasses import dataclass

DASH = "–"


@dataclass(frozen=True)
class Line:
    """One row of a table of the report."""

    name: str
    cells: list[str]
    note: str = ""


@dataclass(frozen=True)
class Grid:
    """A table of the report: the first column names the row."""

    columns: list[str]
    lines: list[Line]
