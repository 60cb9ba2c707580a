"""`tests.align.rounds` with FSDP2 on CPUs, which accelerate offers for GPUs alone.

What it decides by the device is put in by hand; wrapping, gathering and saving are real.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from accelerate import state
from accelerate.utils import DistributedType

import rec.align.training as training
from rec.align.launch import is_first
from tests.align.rounds import run

_init = state.AcceleratorState.__init__


def _shard(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    _init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        if self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin
        state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def main() -> None:
    """Train, and say whether the trainer was sharded."""
    state.AcceleratorState.__init__ = _shard
    trainers: list[Any] = []
    make = training.make_trainer

    def remember(*args: Any, **kwargs: Any) -> Any:
        trainers.append(make(*args, **kwargs))
        return trainers[0]

    setattr(training, "make_trainer", remember)  # noqa: B010
    folder, changes = Path(sys.argv[1]), json.loads(sys.argv[3])
    found = run(folder, Path(sys.argv[2]), **changes)
    kinds = {type(p).__name__ for p in trainers[0].model.parameters()}
    assert trainers[0].is_fsdp_enabled and kinds == {"DTensor"}, kinds
    if is_first():
        (folder / "found.json").write_text(json.dumps([found.curve, found.summary]))


if __name__ == "__main__":
    main()
