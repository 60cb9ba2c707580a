"""More than one device: a stage starts itself again under `accelerate launch`.

So that `dvc repro` uses every GPU, and another machine makes no stage stale.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from rec.config import Machine
from rec.errors import RecError
from rec.machine import cores


def process_count(machine: Machine) -> int:
    """Processes of a distributed run: as told, or one per GPU, or one."""
    return machine.processes or max(1, torch.cuda.device_count())


def is_needed(machine: Machine) -> bool:
    """Whether this process must start others: for several, or to hide all GPUs but one from TRL."""
    if "LOCAL_RANK" in os.environ:
        return False
    return process_count(machine) > 1 or torch.cuda.device_count() > 1


def is_first() -> bool:
    """Whether this is the process that writes."""
    return os.environ.get("RANK", "0") == "0"


def threads(machine: Machine) -> int:
    """Threads of one process, so that all of them share the cores."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, (machine.threads or cores()) // processes)


def relaunch(command: Sequence[str], machine: Machine) -> None:
    """Run `python COMMAND` in all processes, and wait for them.

    Raises RecError for a configuration that is not there, for more processes than GPUs, and where
    a process fails; it has said why.
    """
    count = process_count(machine)
    gpus = torch.cuda.device_count()
    if machine.accelerate and not Path(machine.accelerate).is_file():
        raise RecError(f"machine.accelerate: {machine.accelerate}: no such file")
    if 0 < gpus < count:
        raise RecError(f"machine.processes: {count} are more than the {gpus} GPUs here")
    environment = dict(os.environ)
    if count == 1:
        launcher: list[str] = []
        visible = environment.get("CUDA_VISIBLE_DEVICES") or "0"
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]
    else:
        launcher = ["-m", "accelerate.commands.launch", *_options(count, machine.accelerate)]
    process = subprocess.Popen([sys.executable, *launcher, *command], env=environment)
    ended = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    finally:
        process.terminate()  # whoever interrupts this process ends the others with it
        signal.signal(signal.SIGTERM, ended)
    if code:
        raise RecError(f"align: one of {count} processes failed; its message stands above")


def _options(count: int, config: str) -> list[str]:
    options = ["--num_processes", str(count), "--num_machines", "1", "--main_process_port", "0"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    # "multi_gpu" is its word for several processes; with "cpu" it starts one, whatever their number
    return [*options, *(["--config_file", config] if config else ["--multi_gpu"])]
