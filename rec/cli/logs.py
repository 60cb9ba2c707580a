"""`--verbose`: logs on stderr. Without it only errors are logged, and libraries are quiet."""

from __future__ import annotations

import logging
import os
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


def set_up(verbose: bool) -> None:
    """Log to stderr: with `verbose` what `rec` does and what libraries tell, else errors alone."""
    silence_libraries()
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s" if verbose else "%(message)s"
    _HANDLER.setFormatter(logging.Formatter(form, "%H:%M:%S"))
    _HANDLER.setLevel(logging.DEBUG if verbose else logging.ERROR)
    logging.getLogger().addHandler(_HANDLER)
    logging.getLogger().setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("rec").setLevel(logging.DEBUG if verbose else logging.NOTSET)
    logging.captureWarnings(verbose)
    warnings.simplefilter("default" if verbose else "ignore")
    if verbose:
        os.environ["TRANSFORMERS_VERBOSITY"] = "info"


def verbose_option(function: F) -> F:
    """The option --verbose of a command, which hands nothing to it: `is_verbose` tells."""
    option = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_turn_on,
        help="Print logs on stderr.",
    )
    return option(function)


def is_verbose() -> bool:
    """Whether the running command was called with --verbose."""
    return logging.getLogger("rec").isEnabledFor(logging.DEBUG)


def _turn_on(context: click.Context, parameter: click.Parameter, verbose: bool) -> None:
    if verbose:
        set_up(verbose=True)
