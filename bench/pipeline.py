"""Seconds and peak memory of each stage of the pipeline: `python -m bench.pipeline`.

Runs `dvc repro` in an empty clone of HEAD; `--quick` takes the tiny profile. `--last` runs nothing
and prints what the stages recorded when they last ran here, as after `make repro`.
"""

import json
import time
from pathlib import Path

import click

from bench.clone import empty_clone, run
from stages.runner import FIGURES, read_figures


def report(folder: Path, total: float | None) -> dict[str, object]:
    """The figures of the stages that ran in `folder`; the total is theirs where none is given."""
    stages = {
        name: {"seconds": figures["seconds"], "peak_rss_mb": figures["peak_rss_mb"]}
        for name, figures in read_figures(folder / FIGURES).items()
    }
    seconds = sum(figures["seconds"] for figures in stages.values()) if total is None else total
    return {"total_seconds": round(seconds, 1), "stages": stages}


@click.command()
@click.option("--quick", is_flag=True, help="The tiny profile: a few users.")
@click.option("--last", is_flag=True, help="Report the last run here; run nothing.")
def main(quick: bool, last: bool) -> None:
    """Print the figures of the pipeline as JSON."""
    if last:
        print(json.dumps(report(Path(), None), indent=2))
        return
    with empty_clone(*(["profile=tiny"] if quick else [])) as clone:
        started = time.monotonic()
        run("dvc", "repro", "--quiet", cwd=clone)
        print(json.dumps(report(clone, time.monotonic() - started), indent=2))


if __name__ == "__main__":
    main()
