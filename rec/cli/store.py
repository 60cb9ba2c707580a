"""`rec store`: what the response store holds, and making it smaller."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rec.cli.logs import verbose_option
from rec.cli.output import Form, format_option
from rec.llm.store.responses import PLACE, store_root

if TYPE_CHECKING:
    from rec.llm.store.upkeep import SpaceSummary

_AGES = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_LONGEST = 40  # characters of a value in a description
_HEADERS = ("space", "what", "responses", "size", "hit rate", "tokens/s each", "last use")


class Age(click.ParamType[timedelta]):
    """A time span such as 30d: a number and m, h, d or w."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read the time span; a usage error where it is none."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", str(value))
        if not found:
            self.fail(f"{value!r} is not a time span such as 12h, 30d or 8w", param, ctx)
        try:
            return timedelta(**{_AGES[found[2]]: float(found[1])})
        except OverflowError:
            self.fail(f"{value!r} is too long", param, ctx)


class Size(click.ParamType[int]):
    """A number of bytes such as 2GB (10^9 each) or 500MiB (2^20 each)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number of bytes; a usage error where it is none."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", str(value))
        if not found or found[2].upper() not in _SIZES:
            self.fail(f"{value!r} is not a size such as 500MB or 2GiB", param, ctx)
        try:
            return round(float(found[1]) * _SIZES[found[2].upper()])
        except OverflowError:
            self.fail(f"{value!r} is too large", param, ctx)


def _root_option(function: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--root",
        type=click.Path(path_type=Path),
        help=f"The store's folder.  [default: REC_STORE, or {PLACE} of the clone]",
    )(function)


@click.group()
def store() -> None:
    """Show or prune the responses that were sampled from LLMs."""


@store.command()
@_root_option
@format_option
@verbose_option
def show(root: Path | None, form: Form) -> None:
    """Print what the store holds: a line per space, which is what a sampling run shares."""
    from rec.llm.store.upkeep import spaces

    root = root or store_root()
    found = spaces(root)
    if form == "json":
        click.echo(json.dumps(_as_json(root, found), indent=2))
        return
    click.echo(f"responses in {root}")
    _print_table([_HEADERS, *map(_row, found), _total(found)])
    if damaged := sum(space.damaged for space in found):
        click.echo(f"{damaged} damaged entr{'y' if damaged == 1 else 'ies'} will be sampled again")


@store.command()
@_root_option
@click.option("--older-than", type=Age(), help="Remove spaces not used for this long, such as 30d.")
@click.option("--keep", type=Size(), help="Remove the least recently used ones beyond this size.")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@verbose_option
def prune(root: Path | None, older_than: timedelta | None, keep: int | None, dry_run: bool) -> None:
    """Remove the spaces that were used least recently, then compact the others.

    Without --older-than and --keep nothing is removed but duplicates and damaged entries. What a
    running process uses is kept.
    """
    from rec.llm.store import upkeep

    root = root or store_root()
    done = upkeep.prune(root, older_than=older_than, keep_bytes=keep, dry_run=dry_run)
    would = "would have " if dry_run else ""
    for verb, spaces in (("removed", done.removed), ("compacted", done.compacted)):
        for space in spaces:
            size = f"{space.responses:,} responses, {_size(space.bytes)}"
            click.echo(f"{would}{verb} {space.digest[:8]} ({size}): {summary(space.what)}")
    click.echo(f"{would}freed {_size(done.freed)}; {_size(done.left)} left in {root}")


def summary(what: Mapping[str, Any]) -> str:
    """A space's description on one line: digests cut, lists by their length, nothing of null."""
    return ", ".join(f"{name} {value}" for name, value in _flat(what)) or "?"


def _flat(what: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in what.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif isinstance(value, list) and value and all(map(_is_digest, value)):
            yield name, "+".join(digest[:8] for digest in value)
        elif isinstance(value, list):
            yield name, f"[{len(value)}]"
        elif _is_digest(value):
            yield name, value[:8]
        elif value is not None:
            text = str(value)
            yield name, text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32,}", value) is not None


def _row(space: SpaceSummary) -> tuple[str, ...]:
    return (
        space.digest[:8],
        summary(space.what),
        f"{space.responses:,}",
        _size(space.bytes),
        _share(space.found, space.wanted),
        _rate(space.tokens, space.seconds),
        f"{space.last_used.astimezone():%Y-%m-%d %H:%M}",
    )


def _total(spaces: Sequence[SpaceSummary]) -> tuple[str, ...]:
    return (
        "total",
        f"{len(spaces)} space{'' if len(spaces) == 1 else 's'}",
        f"{sum(space.responses for space in spaces):,}",
        _size(sum(space.bytes for space in spaces)),
        _share(sum(space.found for space in spaces), sum(space.wanted for space in spaces)),
        _rate(sum(space.tokens for space in spaces), sum(space.seconds for space in spaces)),
        "",
    )


def _as_json(root: Path, spaces: Sequence[SpaceSummary]) -> dict[str, Any]:
    rows = [{**asdict(space), "last_used": space.last_used.isoformat()} for space in spaces]
    counts = ("responses", "bytes", "wanted", "found", "damaged", "tokens", "seconds")
    total = {name: sum(row[name] for row in rows) for name in counts}
    return {"root": str(root), "spaces": rows, "total": total}


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _rate(tokens: int, seconds: float) -> str:
    return f"{tokens / seconds:.1f}" if seconds > 0 else "-"


def _print_table(rows: Iterable[Sequence[str]]) -> None:
    """A table with a header and a last line of totals; plain where stdout is no terminal."""
    header, *body, total = rows
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(header, *body, total, strict=True)]
        for row in (header, *body, total):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            click.echo("  ".join(cells).rstrip())
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_footer=True)
    for name, foot in zip(header, total, strict=True):
        left = name in ("space", "what", "last use")
        table.add_column(name, foot, justify="left" if left else "right")
    for row in body:
        table.add_row(*map(escape, row))
    Console().print(table)
