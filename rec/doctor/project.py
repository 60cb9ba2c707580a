"""Checks of a project, which is the current folder: files, policies, DVC, disk, response store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rec import layout
from rec.doctor.findings import Check, Finding, some
from rec.errors import RecError

if TYPE_CHECKING:
    from rec.config import File, Params

LIMIT_SECONDS = 120  # that `dvc status` may take
HASHED_GB = 8  # of a file whose digest is computed: larger ones take minutes
FEW_GB, FEWEST_GB = 5, 1  # of free disk: a warning, a problem


def checks(params: Params) -> dict[str, Check]:
    """The checks of a project with these parameters, by name."""
    return {
        "files": lambda: files(params),
        "policies": lambda: policies(params),
        "DVC": dvc,
        "disk": disk,
        "response store": store,
    }


def files(params: Params) -> Iterator[Finding]:
    """Whether the files of the data set, the LLM and the encoder are those that were published."""
    from rec.config import source_files

    if params.data.source == "local":
        yield _local(Path(params.data.path))
    folders = {"data": layout.RAW_DATA, "llm": layout.RAW_LLM, "encoder": layout.RAW_ENCODER}
    for artifact, folder in folders.items():
        expected = source_files(getattr(params, artifact))
        if not expected:
            continue
        faults = [fault for file in expected if (fault := _fault(file, folder))]
        if not folder.is_dir():
            mend = f"`dvc repro fetch@{artifact}`"
            yield Finding(f"files: {artifact}", "warning", f"{folder} is not there yet", mend)
        elif faults:
            mend = f"remove {folder}, then `dvc repro fetch@{artifact}`"
            yield Finding(f"files: {artifact}", "problem", "; ".join(faults), mend)
        else:
            found = f"{', '.join(file.name for file in expected)}: as published"
            yield Finding(f"files: {artifact}", "ok", found)


def policies(params: Params) -> Iterator[Finding]:
    """Which of the policies have been made."""
    missing = [name for name in params.policies if not layout.policy(name).is_dir()]
    if missing:
        found = f"{', '.join(missing)} of {', '.join(params.policies)} not there yet"
        yield Finding("policies", "warning", found, "`dvc repro`")
    else:
        yield Finding("policies", "ok", ", ".join(params.policies))


def dvc() -> Iterator[Finding]:
    """Whether this is a DVC repository, and which stages have changed since they ran."""
    if not Path(".dvc").is_dir():
        mend = "`dvc init`, or `dvc init --no-scm` without git"
        yield Finding("DVC", "problem", "not a DVC repository", mend)
        return
    changed = _changed_stages()
    if isinstance(changed, str):
        yield Finding("DVC", "warning", f"`dvc status`: {changed}", "wait, or run `dvc status`")
    elif changed:
        found = f"{len(changed)} stages are new or changed: {some(changed)}"
        yield Finding("DVC", "warning", found, "`dvc repro`; `dvc status` says what changed")
    else:
        yield Finding("DVC", "ok", "all stages are as they ran")


def disk() -> Iterator[Finding]:
    """Whether there is room for a run."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    found, mend = f"{free:.1f} GB free", "make room; `dvc gc --workspace` removes former runs"
    if free < FEW_GB:
        yield Finding("disk", "problem" if free < FEWEST_GB else "warning", found, mend)
    else:
        yield Finding("disk", "ok", found)


def store() -> Iterator[Finding]:
    """Whether responses can be kept."""
    from rec.llm.store.files import is_store
    from rec.llm.store.responses import store_root

    try:
        root = store_root()
        there = is_store(root)
    except RecError as error:
        yield Finding("response store", "problem", str(error), "set REC_STORE to another folder")
        return
    holder = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(holder, os.W_OK):
        mend = "make it writable, or set REC_STORE to another folder"
        yield Finding("response store", "problem", f"{holder} cannot be written", mend)
    else:
        yield Finding("response store", "ok", f"{root}{'' if there else ', empty'}")


def _fault(file: File, folder: Path) -> str:
    """What is wrong with a file that was fetched; empty where nothing is."""
    from rec.files import sha256

    path = folder / file.name
    if not path.is_file():
        return f"{file.name} is missing"
    if not file.sha256 or path.stat().st_size > HASHED_GB * 1e9:
        return ""
    found, expected = sha256(path), file.sha256.lower()
    differs = f"{file.name}: its sha256 begins with {found[:8]} and must with {expected[:8]}"
    return "" if found == expected else differs


def _local(path: Path) -> Finding:
    if path.exists():
        return Finding("files: data", "ok", f"{path}, read where it lies")
    mend = "set data.path to the file or folder that is to be read"
    return Finding("files: data", "problem", f"{path} is missing", mend)


def _changed_stages() -> list[str] | str:
    """The stages that `dvc status` lists, or why it does not."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {LIMIT_SECONDS} s"
    if done.returncode:
        return (done.stderr.splitlines() or ["it failed"])[0]
    return list(json.loads(done.stdout))
