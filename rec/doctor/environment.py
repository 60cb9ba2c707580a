"""Checks of the machine: Python, compilers, packages, llama.cpp, torch, memory."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from rec.doctor.findings import SETUP, Check, Finding, State, some

OLDEST_PYTHON = (3, 11)
LOCK = Path("requirements.lock")
LIMIT_SECONDS = 120  # that a library may take to be imported
FEW_GB = 4  # of memory: what the largest stage of the quick profile takes, and some
#: Features of processors that llama.cpp is much faster with: the system's name, llama.cpp's.
FEATURES = {
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx512f": "AVX512",
    "avx512_bf16": "AVX512_BF16",
}
#: Programs that `make setup` calls: what they are, the variable that names another, the default.
TOOLS = (
    ("C compiler", "CC", "cc", "build-essential"),
    ("C++ compiler", "CXX", "c++", "build-essential"),
    ("make", "", "make", "make"),
    ("cmake", "", "cmake", "cmake"),
    ("git", "", "git", "git"),
)


def python() -> Iterator[Finding]:
    """Whether Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    needed = ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info[:2] < OLDEST_PYTHON:
        mend = f"`make clean setup PYTHON=python{needed}`"
        yield Finding("Python", "problem", f"{version}, and {needed} is needed", mend)
    else:
        yield Finding("Python", "ok", f"{version} in {sys.prefix}")


def tools() -> Iterator[Finding]:
    """Whether what compiles llama.cpp is there: without it, what is installed still runs."""
    state: State = "warning" if _version("llama-cpp-python") else "problem"
    for name, variable, default, package in TOOLS:
        program = shlex.split(os.environ.get(variable, "") if variable else "") or [default]
        path = shutil.which(program[0])
        if path is None:
            found = f"no {program[0]}; `make setup` needs it"
            yield Finding(name, state, found, f"install it (Debian: apt install {package})")
        else:
            yield Finding(name, "ok", _first_line([path, "--version"]) or path)


def packages() -> Iterator[Finding]:
    """Whether all required packages are there, in versions that fit."""
    from packaging.requirements import Requirement

    try:
        required = map(Requirement, metadata.requires("rec") or [])
    except metadata.PackageNotFoundError:
        yield Finding("packages", "problem", "rec itself is not installed", SETUP)
        return
    needed = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = []
    for one in needed:
        version = _version(one.name)
        if version is None:
            wrong.append(f"{one.name} is missing")
        elif not one.specifier.contains(version, prereleases=True):
            wrong.append(f"{one.name} is {version} and must be {one.specifier}")
    if wrong:
        yield Finding("packages", "problem", "; ".join(wrong), SETUP)
    else:
        yield Finding("packages", "ok", f"all {len(needed)} that are required")


def lock() -> Iterator[Finding]:
    """Whether the packages are those of requirements.lock, with which results can be repeated."""
    if not LOCK.is_file():
        return
    pinned = re.findall(r"^([\w.-]+)==([^\s;+]+)", LOCK.read_text(), re.MULTILINE)
    others = [
        f"{name} {_version(name) or 'missing'} (locked {version})"
        for name, version in pinned
        if (_version(name) or "").partition("+")[0] != version
    ]
    if others:
        found = f"{len(others)} of {len(pinned)} differ: {some(others)}"
        yield Finding("requirements.lock", "warning", found, SETUP)
    else:
        yield Finding("requirements.lock", "ok", f"all {len(pinned)} packages as locked")


def llama_cpp() -> Iterator[Finding]:
    """Whether llama.cpp runs, and uses what the processor and a GPU can do."""
    rebuild = 'build it again: CMAKE_ARGS="{}" pip install --force-reinstall --no-deps'
    rebuild += f" --no-binary :all: llama-cpp-python=={_version('llama-cpp-python')}"
    said = _probe("llama_cpp")
    if isinstance(said, str):
        yield Finding("llama.cpp", "problem", said, rebuild.format("-DGGML_NATIVE=ON"))
        return
    found = f"{said['version']}, {'GPU' if said['gpu'] else 'CPU'}: {' '.join(said['features'])}"
    flags = _processor_flags()
    built = {name for name, ours in FEATURES.items() if ours in said["features"]}
    unused = [ours for name, ours in FEATURES.items() if name in flags - built]
    if _has_nvidia() and not said["gpu"]:
        mend = rebuild.format("-DGGML_CUDA=ON")
        yield Finding("llama.cpp", "warning", f"{found}; built without the GPU that is here", mend)
    elif unused:
        found += f"; built without the processor's {' '.join(unused)}"
        yield Finding("llama.cpp", "warning", found, rebuild.format("-DGGML_NATIVE=ON"))
    else:
        yield Finding("llama.cpp", "ok", found)


def torch() -> Iterator[Finding]:
    """Whether torch runs, and on what."""
    said = _probe("torch")
    if isinstance(said, str):
        yield Finding("torch", "problem", said, SETUP)
        return
    threads = f", {said['threads']} thread{'s' if said['threads'] > 1 else ''}"
    speed = "bf16 faster than fp32" if said["fast_bf16"] else "fp32 (no fast bf16)"
    found = f"{said['version']} on {said['device']}{'' if said['gpu'] else threads}, {speed}"
    if _has_nvidia() and not said["gpu"]:
        mend = "install a torch that is built for CUDA (docs/scaling.md)"
        yield Finding("torch", "warning", f"{found}; the GPU that is here is not used", mend)
    else:
        yield Finding("torch", "ok", found)


def memory() -> Iterator[Finding]:
    """Whether there is memory for the largest stage."""
    from rec.machine import available_memory, cores

    free = available_memory() / 1e9
    found = f"{free:.1f} GB free, {cores()} cores"
    if free < FEW_GB:
        mend = "close programs, or lower machine.parallel_sequences and prepare.users"
        yield Finding("memory", "warning", f"{found}; the largest stage takes 3.2 GB or more", mend)
    else:
        yield Finding("memory", "ok", found)


CHECKS: dict[str, Check] = {
    "Python": python,
    "tools": tools,
    "packages": packages,
    "requirements.lock": lock,
    "llama.cpp": llama_cpp,
    "torch": torch,
    "memory": memory,
}


def _version(package: str) -> str | None:
    """The installed version of a package; None where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _first_line(command: list[str]) -> str:
    """The first line that a program prints; empty where it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter(done.stdout.splitlines()), "").strip()


def _probe(library: str) -> dict[str, Any] | str:
    """What a library says of itself, or why it does not."""
    command = [sys.executable, "-m", "rec.doctor.probes", library]
    folder = Path(__file__).parents[2]  # where `rec` lies, installed or not
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"it could not be imported within {LIMIT_SECONDS} s"
    if done.returncode < 0:
        return f"it ends the process ({signal.Signals(-done.returncode).name})"
    if done.returncode:
        return f"it cannot be imported ({(done.stderr.splitlines() or ['it said nothing'])[-1]})"
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def _processor_flags() -> set[str]:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return set(found[1].split()) if found else set()


def _has_nvidia() -> bool:
    return Path("/proc/driver/nvidia/version").is_file()
