"""How long `rec profile` takes until it writes: `python -m bench.first_word --user 10`.

In a project whose pipeline has run. Seconds of the clock and of the processor, the median of a few
runs, each a process of its own that ends with its first character.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import click

from bench.measure import print_figures


@click.command()
@click.option("--user", required=True, help="A user of the prepared data.")
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True)
def main(user: str, runs: int) -> None:
    """Print seconds until the first character on stdout."""
    first_character(user)  # so that files are in the page cache
    clock, processor = zip(*(first_character(user) for _ in range(runs)), strict=True)
    figures = {"seconds": statistics.median(clock), "cpu_seconds": statistics.median(processor)}
    print_figures({**figures, "slowest_seconds": max(clock), "runs": runs})


def first_character(user: str) -> tuple[float, float]:
    """Seconds of the clock and of the processor until a process has written something."""
    command = [sys.executable, "-m", "rec.cli", "profile", "--user", user]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout
        if not running.stdout.read(1):
            raise click.ClickException("rec profile wrote nothing")
        seconds = time.perf_counter() - started
        running.kill()
        _, _, usage = os.wait4(running.pid, 0)
        running.returncode = 0
    return seconds, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
