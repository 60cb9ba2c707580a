"""The root of the command: how it finds subcommands and how it fails."""

from __future__ import annotations

import errno
import subprocess
import sys

import click
import pytest
from click.testing import Result

from rec.cli.logs import verbose_option
from rec.errors import RecError
from tests.cli.running import ROOT, call, python, rec


def fail(error: BaseException, *arguments: str) -> Result:
    """What a command does that raises the error."""

    @click.command()
    @verbose_option
    def failing() -> None:
        raise error

    return call(failing, *arguments)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RecError("a.csv: row 3: no\n\x1b[31mrating"), "a.csv: row 3: no [31mrating"),
        (PermissionError(errno.EACCES, "Permission denied", "a.csv"), "a.csv: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (click.ClickException("no"), "no"),
        (
            ModuleNotFoundError("No module named 'trl.x'", name="trl.x"),
            "the package trl is missing: run `make clean setup`; `rec doctor` says more",
        ),
    ],
)
def test_a_failure_is_one_line(error: Exception, line: str) -> None:
    result = fail(error)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {line}\n")


def test_an_interrupt_says_nothing() -> None:
    result = fail(KeyboardInterrupt())
    assert (result.exit_code, result.output.strip()) == (130, "")


@pytest.mark.parametrize(
    "error", [ValueError("bug"), ModuleNotFoundError("No module named 'rec.x'", name="rec.x")]
)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    assert fail(error).exception is error


def test_verbose_shows_where_it_failed() -> None:
    result = fail(RecError("no"), "--verbose")
    assert "Traceback" in result.stderr and result.stderr.endswith("Error: no\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["stor"], "No such command 'stor'; did you mean store? Try 'rec --help'."),
        (["--nothing"], "No such option '--nothing'. Try 'rec --help'."),
        (
            ["store", "show", "--format", "xml"],
            "Invalid value for '--format': 'xml' is not one of 'table', 'json', 'jsonl'."
            " Try 'rec store show --help'.",
        ),
        (
            ["store", "show", "--fromat", "json"],
            "No such option '--fromat'. (Did you mean one of: '--format', '--root'?)"
            " Try 'rec store show --help'.",
        ),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], line: str) -> None:
    result = rec(*arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {line}\n")


def test_a_command_unlike_any_other_gets_the_list() -> None:
    result = rec("xyzzy")
    assert result.exit_code == 2
    assert "; commands are " in result.stderr and "store" in result.stderr


def test_completing_an_unknown_command_says_no_error() -> None:
    typed = {"COMP_WORDS": "rec xyzzy ", "COMP_CWORD": "2"}
    done = python("-m", "rec.cli", _REC_COMPLETE="bash_complete", **typed)
    assert done.stderr == ""


def test_without_a_command_it_helps() -> None:
    assert rec().exit_code == 0
    assert rec().output == rec("--help").output == rec("-h").output


def test_a_reader_that_goes_away_is_no_news() -> None:
    command = [sys.executable, "-m", "rec.cli", "--help"]
    reader, writer = subprocess.PIPE, subprocess.PIPE
    running = subprocess.Popen(command, cwd=ROOT, stdout=reader, stderr=writer)
    assert running.stdout and running.stderr
    running.stdout.close()
    assert running.stderr.read() == b""
    running.stderr.close()
    running.wait(timeout=60)


@pytest.mark.parametrize(
    ("redirections", "status", "said"),
    [
        (">&-", 1, "Error: stdout is closed\n"),
        (">&- 2>&-", 1, ""),
        ("2>&-", 0, ""),
    ],
)
def test_streams_that_are_closed(redirections: str, status: int, said: str) -> None:
    command = f'"{sys.executable}" -m rec.cli --version {redirections}'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, said)
