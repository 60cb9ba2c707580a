"""setup.sh says in one line which prerequisite is missing and how to get it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = {
    "python3": "Python",
    "git": "git",
    "cc": "a C compiler",
    "c++": "a C++ compiler",
    "cmake": "cmake",
}


def write_forwarder(path: Path, program: str) -> None:
    """A script that runs a program where it lies: a copied or linked Python would lose its home."""
    path.write_text(f'#!/bin/sh\nexec "{program}" "$@"\n')
    path.chmod(0o755)


@pytest.mark.parametrize("missing", TOOLS)
def test_a_missing_prerequisite_is_named(missing: str, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in [*TOOLS, "bash", "dirname"]:
        found = shutil.which(name)
        if name == "python3":
            found = sys.executable
        if found and name != missing:
            write_forwarder(tools / name, found)
    copy = tmp_path / "setup.sh"
    shutil.copy(ROOT / "setup.sh", copy)
    done = subprocess.run(
        [str(tools / "bash"), str(copy), "python3"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("setup: ")
    assert len(done.stderr.splitlines()) == 1
    assert f"{TOOLS[missing]}" in done.stderr and "is missing" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for name in ("rec", "stages")
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert set(settings["tool"]["setuptools"]["packages"]) == folders
