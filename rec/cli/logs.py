"""`--verbose`: logs on stderr. Without it only errors are logged, and libraries are quiet."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import click

from rec.chatter import silence_libraries
from rec.cli.text import plain_lines

F = TypeVar("F", bound=Callable[..., Any])


class _ToStderr(logging.Handler):
    """Writes to the stderr of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; what libraries log may hold text of data sets."""
        click.echo(plain_lines(self.format(record)), err=True)


_HANDLER = _ToStderr()


def verbose_option(function: F) -> F:
    """The option --verbose of a command. It sets up logging and hands nothing to the command."""
    option = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_set_up,
        help="Print logs on stderr.",
    )
    return option(function)


def is_verbose() -> bool:
    """Whether the running command was called with --verbose."""
    return logging.getLogger("rec").isEnabledFor(logging.DEBUG)


def _set_up(context: click.Context, parameter: click.Parameter, verbose: bool) -> None:
    if context.resilient_parsing:
        return
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    _HANDLER.setFormatter(logging.Formatter(form if verbose else "%(message)s", "%H:%M:%S"))
    _HANDLER.setLevel(logging.DEBUG if verbose else logging.ERROR)
    logging.getLogger().addHandler(_HANDLER)
    logging.getLogger().setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("rec").setLevel(logging.DEBUG if verbose else logging.NOTSET)
    logging.captureWarnings(verbose)
    if not verbose:
        silence_libraries()
        warnings.simplefilter("ignore")
