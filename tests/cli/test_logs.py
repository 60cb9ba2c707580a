"""--verbose."""

from __future__ import annotations

import logging
import warnings

import click

from rec.cli.logs import is_verbose, verbose_option
from tests.cli.running import call


@click.command()
@verbose_option
def command() -> None:
    """Talk much."""
    for name in ("rec.some", "library"):
        log = logging.getLogger(name)
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)("%s of %s\x1b[2J", level, name)
    warnings.warn("old", FutureWarning, stacklevel=1)
    click.echo(is_verbose())


def test_quiet_but_for_errors() -> None:
    result = call(command)
    assert result.stdout == "False\n"
    assert result.stderr.splitlines() == ["error of rec.some[2J", "error of library[2J"]


def test_verbose() -> None:
    for option in ("--verbose", "-v"):
        result = call(command, option)
        assert result.stdout == "True\n"
        for said in ("DEBUG rec.some: debug of rec.some", "INFO library: info of library", "old"):
            assert said in result.stderr
        assert "debug of library" not in result.stderr
        assert "\x1b" not in result.stderr


def test_a_call_does_not_make_the_next_one_verbose() -> None:
    call(command, "--verbose")
    test_quiet_but_for_errors()
