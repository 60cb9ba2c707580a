"""A table of the report."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

DASH = "–"


@dataclass(frozen=True)
class Line:
    """One row of a table of the report."""

    name: str
    cells: list[str]
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Columns of a table that stand under one heading."""

    heading: str
    columns: list[str]  # their names below it


@dataclass(frozen=True)
class Grid:
    """A table of the report: the first column names the row."""

    columns: list[str]
    lines: list[Line]
    groups: list[Group] = field(default_factory=list)  # all columns but the first; none: no groups


def minus(text: str) -> str:
    """A text with minus signs in place of the hyphens before its numbers."""
    return re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)
