"""Beside the training steps: the curve, the progress bar, and checkpoints by the clock.

The trainer's state holds the curve, so that a run that continues from a checkpoint has all of it.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from dvclive import Live
from transformers import TrainerCallback

from rec.errors import RecError
from rec.progress import bar

CALMER = "lower align.learning_rate or set align.precision to fp32"
#: Column of the curve (rec.curves.ALIGNMENT): the trainer's name for it.
LOGGED = {
    "loss": "loss",
    "margin": "rewards/margins",
    "accuracy": "rewards/accuracies",
    "chosen_reward": "rewards/chosen",
    "rejected_reward": "rewards/rejected",
    "chosen_log_probability": "logps/chosen",
    "rejected_log_probability": "logps/rejected",
    "chosen_log_ratio": "log_ratio/chosen",
    "rejected_log_ratio": "log_ratio/rejected",
    "kl": "kl",
    "entropy": "entropy",
    "gradient_norm": "grad_norm",
    "learning_rate": "learning_rate",
}

Row = dict[str, float]


def curve(log_history: list[dict[str, float]]) -> list[Row]:
    """A row per optimiser step of what the trainer logged."""
    steps = [logs for logs in log_history if "loss" in logs]
    return [_row(logs["step"], logs) for logs in steps]


def _row(step: float, logs: Mapping[str, float]) -> Row:
    return {"step": step, **{name: float(logs[key]) for name, key in LOGGED.items()}}


class Progress(TrainerCallback):
    """A bar in pairs, with pairs per second and the time left."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar where the run continues."""
        self.total: int = round(self.pairs * args.num_train_epochs)
        self.steps: int = state.max_steps
        self.bar = bar("align", self.total, "pair")
        self.bar.n = self.bar.initial = self._pairs(state.global_step)
        self.bar.refresh()

    def _pairs(self, step: int) -> int:
        share: float = step / self.steps
        return round(self.total * share)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar by the pairs of a step."""
        self.bar.update(self._pairs(state.global_step) - self._pairs(state.global_step - 1))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the bar."""
        self.bar.close()


class Curve(TrainerCallback):
    """Writes each optimiser step to DVCLive; ends a run whose loss is no number.

    A run that continues writes the steps before it again, from the trainer's state.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.live: Live | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the folder, on the first process alone."""
        if state.is_world_process_zero:
            self.live = Live(str(self.folder), dvcyaml=None, save_dvc_exp=False, report=None)
            for row in curve(state.log_history):
                self._write(row)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Write a step."""
        if "loss" not in logs:
            return
        row = _row(state.global_step, logs)
        if not math.isfinite(row["loss"]):
            raise RecError(
                f"align: the loss is {row['loss']} at step {state.global_step}; {CALMER}"
            )
        self._write(row)

    def _write(self, row: Row) -> None:
        if self.live is not None:
            self.live.step = int(row["step"])
            for name, value in row.items():
                if name != "step":
                    self.live.log_metric(name, value)
            self.live.make_summary()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the folder."""
        if self.live is not None:
            self.live.end()


#: The last file that a checkpoint gets: one without it was cut off.
WHOLE = "whole"


class Checkpoints(TrainerCallback):
    """Asks the trainer for a checkpoint when so many seconds have gone by since the last."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Decide on the first process, for all of them."""
        due = [time.monotonic() - self.last >= self.seconds and state.global_step < state.max_steps]
        if PartialState().num_processes > 1:
            broadcast_object_list(due)
        control.should_save = due[0]
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint as whole."""
        self.last = time.monotonic()
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()


def last_checkpoint(work: Path) -> Path | None:
    """The latest whole checkpoint in `work`; None where there is none. Others are removed."""
    found: dict[int, Path] = {}
    for path in work.glob("checkpoint-*"):
        if (path / WHOLE).is_file():
            found[int(path.name.removeprefix("checkpoint-"))] = path
        elif PartialState().is_main_process:
            shutil.rmtree(path)
    return found[max(found)] if found else None
