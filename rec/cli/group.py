"""The root of the command: subcommands that are imported when they are called, one-line errors."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from rec.cli import logs
from rec.cli.text import plain
from rec.errors import RecError

INTERRUPTED = 130  # exit status: 128 + SIGINT

_log = logging.getLogger(__name__)


class LazyGroup(click.Group):
    """A group whose subcommand NAME is the attribute NAME of the module `rec.cli.NAME`.

    `sections` is the list of commands on the help page: heading, name, what it does. The modules
    are imported when a command is called.
    """

    def __init__(
        self, *args: Any, sections: Mapping[str, Mapping[str, str]], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, as the help page lists them."""
        return [name for commands in self.sections.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None where there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(import_module(f"rec.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command to call; a usage error that names the commands where there is none.

        While a shell completes a line nothing is an error.
        """
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = get_close_matches(args[0], names, 1)
            said = f"did you mean {near[0]}?" if near else f"commands are {', '.join(names)}"
            raise click.UsageError(f"No such command {args[0]!r}; {said}", ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, then the options."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of commands."""
        width = max(map(len, self.list_commands(ctx)))
        for heading, commands in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), said) for name, said in commands.items()])

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **options: Any
    ) -> NoReturn:
        """Run the command and exit: 0, 1 for a failure, 2 for wrong usage, 130 if interrupted.

        What failed is one line on stderr, but for bugs, which keep their traceback.
        """
        _require_streams()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # text that the terminal's encoding lacks
                stream.reconfigure(errors="backslashreplace")
        logs.set_up(verbose=False)
        options["standalone_mode"] = False
        try:
            status = super().main(args, prog_name, **options)
        except click.UsageError as error:
            _fail(_usage(error), error.exit_code)
        except click.Abort:
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except RecError as error:
            _fail(str(error))
        except ModuleNotFoundError as error:
            _fail(_missing(error))
        except OSError as error:
            named = f"{error.filename}: " if error.filename else ""
            _fail(f"{named}{error.strerror or error}")
        sys.exit(status if isinstance(status, int) else 0)


def _require_streams() -> None:
    """Fail without stdout; without the others have empty ones: no file may get their numbers."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115
    if sys.stdout is None:
        _fail("stdout is closed")
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


def _usage(error: click.UsageError) -> str:
    message = error.format_message()
    if error.ctx is None:
        return message
    end = "" if message.endswith((".", "?", ")")) else "."
    return f"{message}{end} Try '{error.ctx.command_path} --help'."


def _missing(error: ModuleNotFoundError) -> str:
    package = (error.name or "").partition(".")[0]
    if package in ("", "rec"):
        raise error
    return f"the package {package} is missing: run `make clean setup`; `rec doctor` says more"


def _fail(message: str, status: int = 1) -> NoReturn:
    _log.debug("it failed:", exc_info=True)
    click.echo(f"Error: {plain(message)}", err=True)
    sys.exit(status)
