"""What this machine has: cores, and number formats that it is fast in."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> int:
    """Cores that this process may use: the affinity mask, cut by a container's CPU quota."""
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, period = quota.read_text().split()
        if limit != "max":
            available = min(available, max(1, int(limit) // int(period)))
    return available


def available_memory() -> int:
    """Bytes that this process may still take, within a container's limit."""
    import psutil

    available = int(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()) != "max":
        available = min(available, max(0, int(most) - int(used.read_text())))
    return available


def fast_bf16() -> bool:
    """Whether bf16 matrix products beat fp32 here: on CUDA, or a CPU with bf16 instructions."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return processor_has_bf16()


def processor_has_bf16() -> bool:
    """Whether the CPU has instructions for bf16 products."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def device() -> str:
    """The torch device to compute on: cuda where there is one, else cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def use_threads(threads: int | None) -> None:
    """Let torch compute with that many threads; None is the cores that this process may use."""
    import torch

    torch.set_num_threads(threads or cores())
