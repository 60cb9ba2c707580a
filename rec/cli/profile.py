"""`rec profile`: from a history to the preferences that an LLM reads in it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import click

from rec.cli.logs import verbose_option
from rec.cli.output import Form, format_option, print_records
from rec.cli.people import asked_for, history_options, read_catalogue, read_people
from rec.cli.project import Project, project_option
from rec.cli.writers import Drawing, drawing_options, require_writer, write_on_screen

if TYPE_CHECKING:
    from rec.inference.profiles import Profile


@click.command()
@history_options
@drawing_options
@project_option
@format_option
@verbose_option
def profile(
    user: str | None,
    history: str | None,
    history_file: str | None,
    adapter: str,
    count: int,
    seed: int | None,
    temperature: float | None,
    project: Project,
    form: Form,
) -> None:
    """Write what a user prefers, from a history, as an LLM reads it.

    The LLM, its prompt and the form of the answer are those of the pipeline. The text is shown as
    it is written. A history is a prepared user's, or titles with ratings, oldest first: as text, as
    CSV (item or title, rating, timestamp, user) or as JSON lines with the same names; where the
    data has no ratings, titles alone. Titles need not be written exactly; what they were taken for
    is said.
    """
    from rec.inference.profiles import write_profiles

    asked = asked_for(user, history, history_file)
    drawing = Drawing(adapter, count, seed, temperature)
    writer = require_writer(adapter, project)
    people = read_people(asked, project, read_catalogue(project))
    params = drawing.params(project)
    if form == "table":
        deque(write_on_screen(people.prompts, writer.policy, params, count), maxlen=0)
        return
    users = dict(people.prompts.select("key", "user").iter_rows())
    several = people.prompts.height > 1
    drawn = write_profiles(people.prompts, writer.policy, params, count, together=several)
    print_records((_record(one, users[one.key], writer.name) for one in drawn), (), form)


def _record(written: Profile, user: str, adapter: str) -> dict[str, Any]:
    return {
        "user": user or None,
        "adapter": adapter,
        "sample": written.sample,
        "seed": written.seed,
        "profile": written.text,
        "tokens": written.tokens,
        "cut_slots": written.cut_slots,
    }
