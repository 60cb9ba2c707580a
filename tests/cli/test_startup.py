"""What the command imports before it has anything to do, and what all commands have in common."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from rec.cli import EXAMPLES, SECTIONS, main
from tests.cli.running import python, rec

SLOW = {"torch", "transformers", "llama_cpp", "polars", "duckdb", "rich", "omegaconf", "numpy"}
CONTEXT = main.make_context("rec", [], resilient_parsing=True)


def commands(
    group: click.Group = main, context: click.Context = CONTEXT
) -> Iterator[tuple[str, click.Command]]:
    """All commands under a group that are no groups, with what one writes to call them."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            yield from commands(command, click.Context(command, context, name))
        else:
            yield f"{context.command_path} {name}".removeprefix("rec "), command


ALL = dict(commands())


@pytest.mark.parametrize("words", ["", "store", *ALL])
def test_help_imports_nothing_slow(words: str) -> None:
    code = (
        "import atexit, sys; from rec.cli import main;"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        f"main({[*words.split(), '--help']!r}, 'rec')"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: rec {words}")
    imported = set(done.stderr.split())
    assert "rec.cli.group" in imported
    assert SLOW & imported == set()


def test_the_front_page_says_what_each_command_says_of_itself() -> None:
    for group in SECTIONS.values():
        for name, said in group.items():
            command = main.get_command(CONTEXT, name)
            assert command and said == command.get_short_help_str(limit=200)
            assert name in EXAMPLES
            assert f"{name} " in rec("--help").output


def test_every_command_has_the_common_options() -> None:
    assert len(ALL) > len(SECTIONS)
    for words, command in ALL.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--format", "--verbose"} <= options, words


def test_the_version() -> None:
    assert rec("--version").output.startswith("rec 0.")
