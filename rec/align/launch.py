"""More than one device: a stage starts itself again under `accelerate launch`.

So that `dvc repro` uses every GPU, and another machine makes no stage stale.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import torch

from rec.config import Machine
from rec.errors import RecError
from rec.machine import cores


def process_count(machine: Machine) -> int:
    """Processes of a distributed run: as told, or one per GPU, or one."""
    return machine.processes or max(1, torch.cuda.device_count())


def is_launched() -> bool:
    """Whether this process is one of a distributed run."""
    return "LOCAL_RANK" in os.environ


def is_first() -> bool:
    """Whether this is the process that writes."""
    return os.environ.get("RANK", "0") == "0"


def threads(machine: Machine) -> int:
    """Threads of one process, so that all of them share the cores."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, (machine.threads or cores()) // processes)


def relaunch(command: Sequence[str], machine: Machine) -> None:
    """Run `python COMMAND` in all processes, and wait for them.

    Raises RecError where one of them fails; it has said why.
    """
    count = process_count(machine)
    options = ["--num_processes", str(count), "--num_machines", "1", "--main_process_port", "0"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    # "multi_gpu" is its word for several processes; with "cpu" it starts one, whatever their number
    options += ["--config_file", machine.accelerate] if machine.accelerate else ["--multi_gpu"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *options, *command]
    if subprocess.run(launcher, check=False).returncode:
        raise RecError(f"align: one of {count} processes failed; its message stands above")
