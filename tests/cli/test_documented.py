"""docs/cli.md and README.md: their commands print what they say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.cli.documented import DOCUMENTS, PROJECTS, Block, blocks, normal, rewritten, run, shape
from tests.cli.test_startup import ALL

BLOCKS = [block for document in DOCUMENTS for block in blocks(document.read_text())]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all projects that the document needs."""
    folder = tmp_path_factory.mktemp("documented")
    for name in {block.project for block in BLOCKS}:
        PROJECTS[name](folder / name)
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.calls[0][0])
def test_commands_print_what_the_document_says(
    block: Block, projects: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(projects / block.project, project)
    commands = [command for command, _ in block.calls]
    for (command, said), printed in zip(
        block.calls, run(commands, project, tmp_path / "bin"), strict=True
    ):
        compared = shape if block.shape else normal
        assert compared(printed) == compared(said), command


@pytest.mark.parametrize("words", ALL)
def test_every_command_is_documented(words: str) -> None:
    called = re.compile(rf"\brec {words.removesuffix(' show')}( -.*)?$")
    assert any(called.search(command) for block in BLOCKS for command, _ in block.calls)
    assert f"## `rec {words.split()[0]}`" in DOCUMENTS[0].read_text()


SAMPLE = """# Title

```console
$ echo one
one
$ echo two; echo three
old
```

Text.

<!-- console: shape -->
```console
$ echo "Mood 7: dark"
Mood 12: light
```
"""


def test_reading_a_document() -> None:
    whole, vague = blocks(SAMPLE)
    assert whole.calls == (("echo one", "one\n"), ("echo two; echo three", "old\n"))
    assert (whole.project, whole.shape, vague.shape) == ("example", False, True)
    assert vague.calls[0][1] == "Mood 12: light\n"


@pytest.mark.parametrize(
    "text",
    ["```console\nno command\n```\n", "<!-- console: shap -->\n```console\n$ rec\n```\n"],
)
def test_a_document_that_means_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="console"):
        blocks(text)


def test_running_and_rewriting(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()

    def printed(block: Block) -> list[str]:
        return run([command for command, _ in block.calls], project, tmp_path / "bin")

    assert rewritten(SAMPLE, printed) == SAMPLE.replace("old", "two\nthree")
    assert run(["pwd", "rec nothing; echo $?"], project, tmp_path / "bin")[0] == "/home/you/rec\n"


def test_what_is_compared() -> None:
    assert shape("Loved films: Heat\n\n  12  ok  x\n") == ["Loved films", "#"]
    assert shape("Round 1, user 12: margin\n") != shape("Loved films: Heat\n")
    assert normal("used 2026-11-25 21:51\nrec 0.1.0\n") == normal(
        "used 2025-01-01 00:00\nrec 9.9.9\n"
    )
