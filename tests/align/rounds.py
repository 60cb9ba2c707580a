"""A small round of alignment, for processes that tests start: `python -m tests.align.rounds`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rec.align.launch import is_first
from rec.align.pairs import TokenPair
from rec.align.training import Alignment, align
from rec.curves import ALIGNMENT
from rec.machine import use_threads
from tests.align.settings import SETTINGS

#: Of several lengths; the chosen and the rejected response share a beginning.
PAIRS = [
    TokenPair(
        prompt=[10 + index, 20, 30 + index] * (1 + index % 3),
        chosen=[100, 101 + index, 102],
        rejected=[100, 201 + index, 202, 203],
    )
    for index in range(8)
]
HELDOUT = [TokenPair([50, 51], [100, 110, 102], [100, 210, 202])]


def run(
    folder: Path, base: Path, previous: Path | None = None, seconds: float = 0.0, **changes: Any
) -> Alignment:
    """Train on PAIRS for 8 steps (dropout on, so that the state of the generators counts).

    One thread, since sums of other numbers of threads differ in their last bits.
    """
    use_threads(1)
    options = {"epochs": 2, "dropout": 0.1, "batch_size": 1, "gradient_accumulation": 2, **changes}
    return align(
        PAIRS,
        HELDOUT,
        base=base,
        previous=previous,
        live=folder / "live",
        settings=replace(SETTINGS, **options),
        seed=5,
        work=folder / "work",
        checkpoint_seconds=seconds,
    )


if __name__ == "__main__":
    place, changes = Path(sys.argv[1]), json.loads(sys.argv[3])
    found = run(place, Path(sys.argv[2]), **changes)
    if is_first():
        assert all(set(row) == set(ALIGNMENT) for row in found.curve)
        (place / "found.json").write_text(json.dumps([found.curve, found.summary]))
