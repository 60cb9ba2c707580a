"""The project that a command works on, and what it needs to be there."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rec.errors import RecError

if TYPE_CHECKING:
    from rec.config import Params

F = TypeVar("F", bound=Callable[..., Any])

PARAMS = Path("params.yaml")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Project:
    """A project whose folder is the current one, so that the paths of `rec.layout` hold.

    `origin` is the folder in which the command was called.
    """

    root: Path
    origin: Path

    @cached_property
    def params(self) -> Params:
        """The parameters. Raises RecError where params.yaml is faulty."""
        from rec.params import load_params

        return load_params(PARAMS)

    def command(self, stage: str) -> str:
        """What one types to run a stage, where the command was called."""
        folder = self._from_origin()
        return f"dvc {f'--cd {shlex.quote(folder)} ' if folder else ''}repro {stage}"

    def require(self, path: Path, stage: str) -> Path:
        """`path`, which `stage` makes (such as "align@1").

        Raises RecError where there is none, with the command that makes it.
        """
        if path.exists():
            return path
        raise RecError(f"{Path(self._from_origin(), path)} is missing: run `{self.command(stage)}`")

    def _from_origin(self) -> str:
        """The project's folder as seen from where the command was called; "" where it was there."""
        if self.root == self.origin:
            return ""
        inside = self.origin.is_relative_to(self.root)
        return os.path.relpath(self.root, self.origin) if inside else str(self.root)


def project_option(function: F) -> F:
    """The option --project of a command, which gets the Project as `project`.

    The command runs with the project's folder as the current one: paths of the user must be
    resolved by their options (`click.Path(resolve_path=True)`) before.
    """

    @wraps(function)
    def command(*arguments: Any, project: Path | None, **options: Any) -> Any:
        origin = Path.cwd()
        root = find_project(project)
        _log.debug("project %s", root)
        with contextlib.chdir(root):
            return function(*arguments, project=Project(root, origin), **options)

    return project_path_option(command)  # type: ignore[return-value]


def project_path_option(function: F) -> F:
    """The option --project of a command that works without one: it gets a path or None."""
    option = click.option(
        "--project",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        envvar="REC_PROJECT",
        show_envvar=True,
        help="The project's folder.  [default: the nearest with params.yaml, from here upwards]",
    )
    return option(function)


def find_project(chosen: Path | None = None) -> Path:
    """The folder `chosen`, else the nearest one with params.yaml from the current folder upwards.

    Absolute. Raises RecError where there is no params.yaml.
    """
    here = (chosen or Path.cwd()).resolve()
    if chosen:
        if not (here / PARAMS).is_file():
            raise RecError(f"{chosen}: no project, it holds no {PARAMS}")
        return here
    for folder in (here, *here.parents):
        if (folder / PARAMS).is_file():
            return folder
    raise RecError(
        f"{here}: no project, neither it nor a folder above it holds {PARAMS}; go to one, or name"
        " one with --project or REC_PROJECT"
    )
