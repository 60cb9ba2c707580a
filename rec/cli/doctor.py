"""`rec doctor`: whether this machine and this project are fit to run."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from rec.cli.logs import verbose_option
from rec.cli.output import Column, Form, format_option, print_records
from rec.cli.project import find_project, project_path_option
from rec.errors import RecError

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_COLUMNS = (
    Column("check", "check"),
    Column("state", "state", styles=_STYLES),
    Column("found", "found"),
    Column("mend", "how to mend"),
)


@click.command()
@project_path_option
@format_option
@verbose_option
@click.pass_context
def doctor(context: click.Context, project: Path | None, form: Form) -> None:
    """Check the machine and the project, and say how to mend what is wrong.

    A warning is about what works less well or is not there yet. The exit status is 1 where there
    is a problem: something that cannot work.
    """
    from rec.doctor.examination import examine

    findings = examine(_root(project))
    states = Counter(finding.state for finding in findings)
    note = f"problems: {states['problem']}, warnings: {states['warning']}"
    print_records(map(asdict, findings), _COLUMNS, form, notes=[note])
    context.exit(1 if states["problem"] else 0)


def _root(project: Path | None) -> Path | None:
    try:
        return find_project(project)
    except RecError:
        if project:
            raise
        return None
