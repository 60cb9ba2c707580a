"""Running the command in tests: in this process, and as a process of its own on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import click
from click.testing import CliRunner, Result

from rec.cli import main
from rec.cli.group import LazyGroup

ROOT = Path(__file__).parents[2]


def rec(*arguments: object, stdin: str | None = None) -> Result:
    """What `rec ARGUMENTS` does, with stdout and stderr apart."""
    return CliRunner().invoke(main, [*map(str, arguments)], input=stdin, prog_name="rec")


def call(command: click.Command, *arguments: object) -> Result:
    """What a command of a test's own does as `rec made-up ARGUMENTS`."""
    module = ModuleType("rec.cli.made_up")
    module.made_up = command  # type: ignore[attr-defined]
    group = LazyGroup(name="rec", sections={"Commands": {"made_up": "For a test."}})
    with mock.patch.dict(sys.modules, {"rec.cli.made_up": module}):
        return CliRunner().invoke(group, ["made_up", *map(str, arguments)], prog_name="rec")


def python(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `python ARGUMENTS` does, with this `rec`."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, env=_environment(environment), capture_output=True, text=True, timeout=120
    )


def on_a_terminal(*arguments: object, columns: int = 120) -> str:
    """What `rec ARGUMENTS` prints on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rec.cli", *map(str, arguments)]
    environment = _environment({"COLUMNS": str(columns), "TERM": "xterm-256color"})
    running = subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            printed += chunk
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    running.wait(timeout=120)
    return printed.decode().replace("\r\n", "\n")


def _environment(changes: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
    return {**kept, "PYTHONPATH": path, **changes}
