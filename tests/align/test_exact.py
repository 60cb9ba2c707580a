"""The packed trainer computes what TRL's computes: losses, metrics and gradients of the LoRA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rec.align.pairs import TokenPair
from tests.align.settings import SETTINGS
from tests.align.stock import packed_step, stock_step
from tests.llm.tiny import Tiny

#: Of different lengths; responses that begin alike, one that is the other's beginning, labels that
#: do not count.
PAIRS = [
    TokenPair([5, 6, 7, 8, 9, 10, 11], [20, 21, 22, 23], [20, 21, 30, 31, 32, 33]),
    TokenPair([40, 41], [50], [60, 61, 62, 63, 64, 65, 66, 67, 68]),
    TokenPair([70, 71, 72, 73], [80, 81, 82], [80, 81]),
    TokenPair(
        [7, 7, 7, 90, 91],
        [1, 92, 93, 2, 94],
        [1, 95, 2, 96, 97],
        (False, True, True, False, True),
        (False, True, False, True, True),
    ),
]
#: Metrics of TRL's that are counted over tokens which packing does not compute.
OTHERS = {"num_tokens"}


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "robust", "hinge", "apo_zero", "sft"])
def test_losses_and_gradients(tiny: Tiny, tmp_path: Path, loss: str) -> None:
    smoothing = 0.1 if loss == "robust" else 0.0
    check(tiny, tmp_path, loss=loss, label_smoothing=smoothing)


def check(tiny: Tiny, folder: Path, **changes: Any) -> None:
    settings = replace(SETTINGS, **changes)
    expected = stock_step(tiny.hf, PAIRS, settings, folder / "stock")
    found = packed_step(tiny.hf, PAIRS, settings, folder / "packed")
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    for name in expected.metrics.keys() - OTHERS:
        assert found.metrics[name] == pytest.approx(expected.metrics[name], rel=1e-4, abs=1e-5), (
            name
        )
    assert found.gradients.keys() == expected.gradients.keys()
    for name, gradient in expected.gradients.items():
        scale = float(gradient.abs().max())
        assert (found.gradients[name] - gradient).abs().max() <= 1e-4 * scale + 1e-9, name
    assert expected.metrics["rewards/margins"] != 0


def test_activations_that_are_computed_again(tiny: Tiny, tmp_path: Path) -> None:
    plain = packed_step(tiny.hf, PAIRS, SETTINGS, tmp_path / "plain")
    again = packed_step(tiny.hf, PAIRS, SETTINGS, tmp_path / "again", checkpointing=True)
    assert again.loss == plain.loss
    for name, gradient in plain.gradients.items():
        assert torch.equal(again.gradients[name], gradient), name
