"""What every stage script shares: parameters in, one-line errors out, and its own figures.

A stage is a function of `Params` (and of its arguments, such as a round). Its seconds and peak
memory are written to .cache/stages/, outside of DVC's outputs, for `bench/pipeline.py --last`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import psutil

from rec.errors import RecError
from rec.files import write_json
from rec.params import load_params

FIGURES = Path(".cache/stages")


def stage(function: Callable[..., None]) -> click.Command:
    """Turn `function(params, **arguments)` into a command with the option --params."""

    def command(params_path: Path, **arguments: Any) -> None:
        module = function.__module__.removeprefix("stages.")
        memory = _PeakMemory()
        memory.start()
        try:
            function(load_params(params_path), **arguments)
        except RecError as error:
            raise click.ClickException(str(error)) from error
        if "LOCAL_RANK" in os.environ:
            return  # one of several processes of a stage, which records itself
        _record("@".join([module, *map(str, arguments.values())]), memory)

    command.__doc__ = function.__doc__
    for parameter in getattr(function, "__click_params__", []):
        command.__dict__.setdefault("__click_params__", []).append(parameter)
    option = click.option(
        "--params",
        "params_path",
        type=click.Path(path_type=Path),
        default=Path("params.yaml"),
        show_default=True,
        help="The parameters to run with.",
    )
    return click.command()(option(command))


class _PeakMemory(threading.Thread):
    """Watches the memory of this process and of the ones that it starts."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        """Look once a second: more often would take time from the stage."""
        process = psutil.Process()
        while not self.done.wait(1.0):
            total = 0
            for one in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += one.memory_info().rss
            self.peak = max(self.peak, total)

    def megabytes(self) -> int:
        """The peak so far: what was seen, and at least what the system recorded of this process."""
        self.done.set()
        unit = 1 if sys.platform == "darwin" else 1024
        recorded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return round(max(self.peak, recorded) / 2**20)


def _record(name: str, memory: _PeakMemory) -> None:
    if name.startswith("__main__"):
        name = name.replace("__main__", Path(sys.argv[0]).stem, 1)
    seconds = time.time() - psutil.Process().create_time()
    figures = {"seconds": round(seconds, 2), "peak_rss_mb": memory.megabytes()}
    write_json(FIGURES / f"{name}.json", {**figures, "finished": time.time()})


def read_figures(folder: Path = FIGURES) -> dict[str, dict[str, float]]:
    """The figures of the last run of each stage, by name, in the order in which they finished."""
    stages = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    return dict(sorted(stages.items(), key=lambda item: item[1]["finished"]))
