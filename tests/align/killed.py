"""A run that kills itself before a step: `python -m tests.align.killed FOLDER HF STEP`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from rec.align import watch
from tests.align.rounds import run


def main() -> None:
    folder, base, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

    class Killer(watch.Checkpoints):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                os.kill(os.getpid(), signal.SIGKILL)

    import rec.align.training as training

    setattr(training, "Checkpoints", Killer)  # noqa: B010
    run(folder, base)


if __name__ == "__main__":
    main()
