"""Whose history a command takes: a prepared user's, or one that is written down."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rec import layout
from rec.cli.interrupts import heed_interrupts
from rec.cli.output import say
from rec.cli.project import Project
from rec.errors import RecError

if TYPE_CHECKING:
    import polars as pl

    from rec.inference.catalogue import Catalogue, Match
    from rec.inference.entries import Entry
    from rec.inference.histories import History

F = TypeVar("F", bound=Callable[..., Any])

STDIN = "-"
FILE = click.Path(exists=True, dir_okay=False, resolve_path=True, allow_dash=True)


@dataclass(frozen=True)
class Asked:
    """The options that say whose history it is."""

    user: str | None
    history: str | None
    file: str | None


@dataclass(frozen=True)
class People:
    """Users with their histories and what the LLM is asked about them (PROMPTS, in order)."""

    histories: dict[str, History]
    prompts: pl.DataFrame


def history_options(function: F) -> F:
    """The options --user, --history and --history-file."""
    options = (
        click.option(
            "--user", help="A user of the prepared data, as the pipeline asks about them."
        ),
        click.option(
            "--history",
            help="Titles with ratings, oldest first: 'Toy Story:5, Fargo:3'; \"#12\" is an id.",
        ),
        click.option(
            "--history-file",
            type=FILE,
            help="The same as a file, CSV or JSON lines; - is stdin.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def asked_for(user: str | None, history: str | None, history_file: str | None) -> Asked:
    """The options, one of which must be given; a usage error where none or several are."""
    given = [name for name in (user, history, history_file) if name is not None]
    if len(given) != 1:
        raise click.UsageError(
            "Name a history by one of --user, --history and --history-file.",
            click.get_current_context(),
        )
    return Asked(user, history, history_file)


def read_text(path: str) -> tuple[str, str]:
    """The name of a file for errors, and its text; "-" is stdin.

    Raises RecError where it is not text in UTF-8.
    """
    name = "stdin" if path == STDIN else Path(path).name
    heed_interrupts()
    try:
        raw = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
        return name, raw.decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecError(f"{name}: line {line}: not text in UTF-8") from None


def read_catalogue(project: Project) -> Catalogue:
    """The items of the project."""
    from rec.inference.catalogue import Catalogue
    from rec.tables import ITEMS, read_table

    heed_interrupts()
    return Catalogue(read_table(project.require(layout.ITEMS, "prepare"), ITEMS))


def read_people(asked: Asked, project: Project, catalogue: Catalogue) -> People:
    """The users asked for; says what titles were taken for, of many users the approximate ones."""
    from rec.inference.entries import read_entries, text_entries
    from rec.inference.histories import Scale, prepared_history, prepared_rows, prompts, resolve
    from rec.tables import PROMPTS

    if asked.user is not None:
        prompt = prepared_rows(asked.user, project.require(layout.PROMPTS, "prompts"), PROMPTS)
        path = project.require(layout.INTERACTIONS, "prepare")
        return People({asked.user: prepared_history(asked.user, path)}, prompt)
    scale = Scale.of(project.params)
    entries: dict[str, list[Entry]]
    if asked.history is not None:
        entries = {"": text_entries(asked.history, "--history", rated=scale.rated)}
        if not entries[""]:
            raise RecError("--history: there is no item in it")
    else:
        name, text = read_text(str(asked.file))
        entries = read_entries(text, name, rated=scale.rated)
    catalogue.expect(entry.text for rows in entries.values() for entry in rows)
    histories = {user: resolve(rows, catalogue, scale) for user, rows in entries.items()}
    matches = [match for history in histories.values() for match in history.matches]
    say_matches([match for match in matches if match.approximate or len(histories) == 1])
    asked_about = prompts(histories, catalogue.items, project.params)
    return People(histories, _in_order(asked_about, histories))


def say_matches(matches: Sequence[Match]) -> None:
    """Say which items texts were taken for, but where the text is the whole title."""
    for match in dict.fromkeys(matches):
        if match.text != match.label:
            say(str(match))


def _in_order(prompts: pl.DataFrame, histories: dict[str, History]) -> pl.DataFrame:
    import polars as pl

    order = pl.DataFrame({"user": list(histories)})
    return order.join(prompts, on="user", how="left", maintain_order="left")
