"""All checks, side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from rec.doctor import environment, project
from rec.doctor.findings import SETUP, Check, Finding, named, run
from rec.errors import RecError

if TYPE_CHECKING:
    from rec.config import Params

PARAMS = Path("params.yaml")


def examine(root: Path | None) -> list[Finding]:
    """What is found of this machine and of the project in the folder `root`; None is no project."""
    if root is None:
        mend = "go to a clone of the project, or name it with --project or REC_PROJECT"
        missing = Finding("project", "problem", "no params.yaml here or above", mend)
        return [*_run(environment.CHECKS), missing]
    with contextlib.chdir(root):
        found = _load()
        params = found if isinstance(found, Finding) else Finding(str(PARAMS), "ok", str(root))
        further = {} if isinstance(found, Finding) else project.checks(found)
        results = _run({**environment.CHECKS, str(PARAMS): lambda: [params], **further})
    return results


def _load() -> Params | Finding:
    """The parameters, or why there are none."""
    try:
        from rec.params import load_params

        return load_params(PARAMS)
    except RecError as error:
        return Finding(str(PARAMS), "problem", str(error), f"correct {PARAMS}")
    except ImportError as error:
        return Finding(str(PARAMS), "problem", f"it cannot be read ({error})", SETUP)
    except Exception as error:  # whatever the reason, the other checks go on
        found = f"it cannot be read ({named(error)})"
        return Finding(str(PARAMS), "problem", found, f"correct {PARAMS}")


def _run(checks: Mapping[str, Check]) -> list[Finding]:
    with ThreadPoolExecutor() as pool:
        found = pool.map(run, checks.keys(), checks.values())
        return [finding for findings in found for finding in findings]
