"""The commands in the documents and what they print: run in a small project, compared, rewritten.

A block of kind `console` holds commands, each after `$ `, with what they print (stdout and stderr)
below. They are run by bash in a fresh copy of a project of PROJECTS. A comment before a block may
say otherwise, in any order:

    <!-- console: shape -->     only the shape is compared: what differs between machines or models
    <!-- console: real -->      printed by a project whose pipeline has run, so that the same holds
    <!-- console: PROJECT -->   the project to run in, where it is not "example"; that of "models"
                                has tiny ones

The shape of a line is what stands before its first colon or wide gap, without its digits.

`python -m tests.cli.documented` writes what the commands print now into the documents, but for the
blocks of which only the shape is compared. `python -m tests.cli.documented FOLDER` writes the real
ones instead, as they print in the project FOLDER, whose pipeline has run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cli.example import write_example
from tests.cli.running import ROOT

DOCUMENTS = (ROOT / "docs" / "cli.md", ROOT / "README.md")


def write_models(root: Path) -> Path:
    """Write the project with tiny models; its folder."""
    from tests.inference.project import write_project

    return write_project(root)


#: What makes each project in which documented commands run, given its folder.
PROJECTS: dict[str, Callable[[Path], object]] = {
    "example": write_example,
    "models": write_models,
}
#: Where the document has its project, and the width of its terminal.
PLACE, COLUMNS = "/home/you/rec", "100"
LIMIT_SECONDS = 300

_BLOCK = re.compile(
    r"(?:<!-- console: (?P<words>[\w ]+) -->\n+)?^```console\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """Commands, each with what it prints, and how to check that."""

    calls: tuple[tuple[str, str], ...]
    project: str
    shape: bool
    real: bool
    start: int  # where its text lies in the document
    end: int


def blocks(document: str) -> list[Block]:
    """The console blocks of a document. Raises ValueError for a word that means nothing."""
    return [_block(found) for found in _BLOCK.finditer(document)]


def _block(found: re.Match[str]) -> Block:
    words = (found["words"] or "").split()
    projects = [word for word in words if word not in ("shape", "real")] or ["example"]
    if len(projects) > 1 or projects[0] not in PROJECTS:
        raise ValueError(f"console: {found['words']}: projects are {', '.join(PROJECTS)}")
    first, *parts = re.split(r"^\$ (.*)\n", found["text"], flags=re.MULTILINE)
    if first or not parts:
        raise ValueError(f"a console block begins with a command: {found['text'][:40]!r}")
    calls = tuple(zip(parts[::2], parts[1::2], strict=True))
    real = "real" in words
    shape = real or "shape" in words
    return Block(calls, projects[0], shape, real, found.start("text"), found.end("text"))


def run(commands: Sequence[str], project: Path, tools: Path, real: Path | None = None) -> list[str]:
    """What bash prints for each command in the project's folder; `tools` gets the command `rec`.

    With `real` the commands work on that project, and write into the folder `project` alone.
    """
    tools.mkdir(exist_ok=True)
    program = tools / "rec"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rec.cli "$@"\n')
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REC_")}
    environment = {
        **kept,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": COLUMNS,
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        **({} if real is None else {"REC_PROJECT": str(real)}),
    }
    printed = []
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        printed.append(done.stdout.replace(str(project), PLACE))
    return printed


def normal(text: str) -> str:
    """Text without what differs from day to day: times and versions."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "2026-01-01 00:00", text)
    return re.sub(r"^rec \d+\.\d+\.\d+$", "rec 0.0.0", text, flags=re.MULTILINE)


def shape(text: str) -> list[str]:
    """What stands at the start of each line that is not empty."""
    heads = [re.split(r":|\s{2,}", line.strip(), maxsplit=1)[0] for line in text.splitlines()]
    return [re.sub(r"\d+", "#", head) for head in heads if head]


def rewritten(
    document: str,
    printed: Callable[[Block], Sequence[str]],
    chosen: Callable[[Block], bool] = lambda block: not block.shape,
) -> str:
    """The document with what is printed now: by default, where that is compared as a whole."""
    for block in reversed(blocks(document)):
        if chosen(block):
            outputs = printed(block)
            calls = zip(block.calls, outputs, strict=True)
            new = [
                f"$ {command}\n{old if normal(old) == normal(now) else now}"
                for (command, old), now in calls
            ]
            document = document[: block.start] + "".join(new) + document[block.end :]
    return document


def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, write in PROJECTS.items():
            write(place / "projects" / name)

        def printed(block: Block) -> list[str]:
            copy = place / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(place / "projects" / block.project, copy)
            return run([command for command, _ in block.calls], copy, place / "bin")

        for document in DOCUMENTS:
            document.write_text(rewritten(document.read_text(), printed))


def _write_real(real: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "place"
        place.mkdir()

        def printed(block: Block) -> list[str]:
            return run([command for command, _ in block.calls], place, Path(folder) / "bin", real)

        for document in DOCUMENTS:
            text = rewritten(document.read_text(), printed, lambda block: block.real)
            document.write_text(text)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _write_real(Path(sys.argv[1]).resolve())
    else:
        _write()
