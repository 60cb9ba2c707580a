"""`python -m rec.doctor.probes LIBRARY`: what a library says of itself, as JSON.

In a process of its own, since a library that was built for another processor ends the process.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def llama_cpp() -> dict[str, Any]:
    """llama.cpp's version, the processor features that it was built for, and whether for a GPU."""
    import llama_cpp as library

    said = library.llama_print_system_info().decode()
    pairs = [part.split(":")[-1].split("=") for part in said.split("|") if "=" in part]
    return {
        "version": library.__version__,
        "features": [name.strip() for name, value in pairs if value.strip() == "1"],
        "gpu": bool(library.llama_supports_gpu_offload()),
    }


def torch() -> dict[str, Any]:
    """torch's version, its device, its threads, and whether bf16 is faster than fp32 on it."""
    import torch as library

    from rec.machine import device, fast_bf16

    chosen = device()
    return {
        "version": library.__version__,
        "device": library.cuda.get_device_name() if chosen == "cuda" else "CPU",
        "gpu": chosen == "cuda",
        "threads": library.get_num_threads(),
        "fast_bf16": fast_bf16(),
    }


if __name__ == "__main__":
    print(json.dumps({"llama_cpp": llama_cpp, "torch": torch}[sys.argv[1]]()))
