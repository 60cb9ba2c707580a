"""What every stage script shares: parameters in, one-line errors out, and its own figures.

A stage is a function of `Params` (and of its arguments, such as a round). Its seconds and peak
memory are written to .cache/stages/, outside of DVC's outputs, for `bench/pipeline.py --last`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import psutil

from rec.config import load_params
from rec.errors import RecError
from rec.files import write_json

FIGURES = Path(".cache/stages")


def stage(function: Callable[..., None]) -> click.Command:
    """Turn `function(params, **arguments)` into a command with the option --params."""

    def command(params_path: Path, **arguments: Any) -> None:
        if not sys.stderr.isatty():
            os.environ.setdefault("TQDM_DISABLE", "1")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        try:
            function(load_params(params_path), **arguments)
        except RecError as error:
            raise click.ClickException(str(error)) from error
        _record(
            "@".join([function.__module__.removeprefix("stages."), *map(str, arguments.values())])
        )

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


def _record(name: str) -> None:
    if name.startswith("__main__"):
        module = Path(sys.argv[0]).stem
        name = name.replace("__main__", module, 1)
    kilobytes = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    if sys.platform == "darwin":
        kilobytes //= 1024
    seconds = time.time() - psutil.Process().create_time()
    figures = {"seconds": round(seconds, 2), "peak_rss_mb": round(kilobytes / 1024)}
    write_json(FIGURES / f"{name}.json", {**figures, "finished": time.time()})


def read_figures(folder: Path = FIGURES) -> dict[str, dict[str, float]]:
    """The figures of the last run of each stage, by name, in the order in which they finished."""
    stages = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    return dict(sorted(stages.items(), key=lambda item: item[1]["finished"]))
