"""The folder in which a round works until it is finished, so that a killed run can go on.

It lies outside of DVC's outputs, which DVC removes before it runs a stage.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState

from rec.align.launch import is_first
from rec.errors import RecError
from rec.files import read_json, write_json

INPUTS = "inputs.json"


def prepare_work(work: Path, inputs: dict[str, Any]) -> None:
    """Empty `work` unless it holds what a run with the same inputs left."""
    if PartialState().is_main_process:
        known = work / INPUTS
        if not known.is_file() or read_json(known) != json.loads(json.dumps(inputs)):
            discard(work)
            work.mkdir(parents=True)
            write_json(known, inputs)
    PartialState().wait_for_everyone()


def discard(work: Path) -> None:
    """Remove the folder, first what says that it can be continued."""
    (work / INPUTS).unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Let no second run work in the same folder. Raises RecError where one does."""
    if not is_first():
        yield
        return
    work.parent.mkdir(parents=True, exist_ok=True)
    with work.with_name(f"{work.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RecError(f"{work}: another run works here; wait for it, or end it") from error
        yield
