"""`rec store`: what the response store holds, and making it smaller."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rec.cli.logs import verbose_option
from rec.cli.output import Column, Form, format_option, print_line, print_records
from rec.cli.project import project_path_option
from rec.llm.store.responses import PLACE, store_root

if TYPE_CHECKING:
    from rec.llm.store.upkeep import Pruned, SpaceSummary

F = TypeVar("F", bound=Callable[..., Any])

_AGES = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_LONGEST = 40  # characters of a value in a description


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


def _place_options(function: F) -> F:
    root = click.option(
        "--root",
        type=click.Path(path_type=Path),
        help=f"The store's folder.  [default: REC_STORE, or {PLACE} of the clone]",
    )
    return root(project_path_option(function))


def _place(root: Path | None, project: Path | None) -> Path:
    """The folder of the store: the one that stages use which are run in the project."""
    with contextlib.chdir(project or Path.cwd()):
        return root or store_root()


class _ShowByDefault(click.Group):
    """`rec store` is `rec store show`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put "show" before options that are not the group's own.

        Where a shell completes `rec store`, the commands are what may follow.
        """
        bare = not args and not ctx.resilient_parsing
        if bare or (args and args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ShowByDefault)
def store() -> None:
    """Show or prune the responses that were sampled from LLMs.

    Without a command it shows them.
    """


@store.command(short_help="Print what the store holds.")
@_place_options
@format_option
@verbose_option
def show(root: Path | None, project: Path | None, form: Form) -> None:
    """Print what the store holds: a line per space, which is what a sampling run shares."""
    from rec.llm.store.upkeep import spaces

    root = _place(root, project)
    records = [_record(space) for space in spaces(root)]
    total = _total(records)
    damaged = total["damaged"]
    note = f"{damaged} damaged entr{'y' if damaged == 1 else 'ies'} will be sampled again"
    print_records(
        records,
        _COLUMNS,
        form,
        title=f"responses in {_named(root)}",
        notes=[note] if damaged else [],
        total={**total, "digest": "total", "what": f"{_counted(len(records), 'space')}"},
        document={"root": root, "spaces": records, "total": total},
    )


@store.command(short_help="Remove what was used least recently.")
@_place_options
@click.option("--older-than", type=Age(), help="Remove spaces not used for this long, such as 30d.")
@click.option("--keep", type=Size(), help="Remove the least recently used ones beyond this size.")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@format_option
@verbose_option
def prune(
    root: Path | None,
    project: Path | None,
    older_than: timedelta | None,
    keep: int | None,
    dry_run: bool,
    form: Form,
) -> None:
    """Remove the spaces that were used least recently, then compact the others.

    Without --older-than and --keep nothing is removed but duplicates and damaged entries. What a
    running process uses is kept.
    """
    from rec.llm.store import upkeep

    root = _place(root, project)
    done = upkeep.prune(root, older_than=older_than, keep_bytes=keep, dry_run=dry_run)
    if form == "table":
        _print_pruned(done, root, "would have " if dry_run else "")
        return
    removed, compacted = map(_record, done.removed), map(_record, done.compacted)
    records = [{"done": "removed", **record} for record in removed]
    records += [{"done": "compacted", **record} for record in compacted]
    figures = {"dry_run": dry_run, "freed": done.freed, "left": done.left}
    print_records(records, (), form, document={"root": root, **figures, "spaces": records})


def _print_pruned(done: Pruned, root: Path, would: str) -> None:
    for verb, spaces in (("removed", done.removed), ("compacted", done.compacted)):
        for space in spaces:
            size = f"{space.responses:,} responses, {_size(space.bytes)}"
            print_line(f"{would}{verb} {space.digest[:8]} ({size}): {summary(space.what)}")
    print_line(f"{would}freed {_size(done.freed)}; {_size(done.left)} left in {_named(root)}")


def _named(root: Path) -> str:
    return f"{root}{'' if root.exists() else ', which is not there yet'}"


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


def _record(space: SpaceSummary) -> dict[str, Any]:
    return _with_rates(asdict(space))


def _total(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts = ("responses", "bytes", "wanted", "found", "damaged", "tokens", "seconds")
    return _with_rates({name: sum(record[name] for record in records) for name in counts})


def _with_rates(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures with the share of wanted responses that were there, and the speed."""
    wanted, seconds = figures["wanted"], figures["seconds"]
    hit_rate = figures["found"] / wanted if wanted else None
    return {
        **figures,
        "hit_rate": hit_rate,
        "tokens_per_second": figures["tokens"] / seconds if seconds > 0 else None,
    }


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _summary(what: Mapping[str, Any] | str) -> str:
    return what if isinstance(what, str) else summary(what)


_COLUMNS = (
    Column("digest", "space", lambda digest: str(digest[:8])),
    Column("what", "what", _summary),
    Column("responses", "responses", "{:,}".format, right=True),
    Column("bytes", "size", _size, right=True),
    Column("hit_rate", "hit rate", "{:.1%}".format, right=True),
    Column("tokens_per_second", "tokens/s each", "{:.1f}".format, right=True),
    Column("last_used", "last use", lambda when: f"{when.astimezone():%Y-%m-%d %H:%M}"),
)
