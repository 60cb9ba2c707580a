"""An empty clone of the committed tree, to measure in."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]


def run(*command: str, cwd: Path) -> None:
    """Run a command with this environment's programs first, its output on stderr.

    REC_STORE is left out: the clone would find responses in that store and sample nothing.
    """
    environment = {name: value for name, value in os.environ.items() if name != "REC_STORE"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=cwd, env=environment, check=True, stdout=sys.stderr)


@contextmanager
def empty_clone(*overrides: str) -> Iterator[Path]:
    """Clone HEAD into a temporary folder without any artifact, its params composed anew."""
    with TemporaryDirectory(prefix="rec-bench-") as folder:
        clone = Path(folder) / "rec"
        run("git", "clone", "--quiet", str(ROOT), str(clone), cwd=ROOT)
        (clone / "dvc.lock").unlink(missing_ok=True)
        run(sys.executable, "-m", "stages.compose", *overrides, cwd=clone)
        yield clone
        shutil.rmtree(clone)
