"""What several benches measure and print."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.models import ROOT


def measured(module: str, part: str, **options: Any) -> dict[str, Any]:
    """The figures that `python -m MODULE --part PART` prints, in a process of its own."""
    command = [sys.executable, "-m", module, "--part", part]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def peak_megabytes() -> float:
    """Most memory that this process held; on Linux without what its parent held before it."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def peak_flops() -> float:
    """Floating point operations per second of a large bf16 matrix product in torch."""
    import torch

    from rec.machine import cores, device

    torch.set_num_threads(cores())
    left, right = (torch.randn(2048, 2048, device=device()).bfloat16() for _ in range(2))
    best = 0.0
    for _ in range(30):
        started = time.perf_counter()
        float((left @ right)[0, 0])
        best = max(best, 2 * 2048**3 / (time.perf_counter() - started))
    return best


def print_figures(figures: Mapping[str, Any]) -> None:
    """Print figures as JSON, to three digits."""
    print(json.dumps({name: _rounded(value) for name, value in figures.items()}, indent=2))


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 3) if value < 10 else round(value, 1)
