"""rec.align.memory: activations are kept where they fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from transformers import LlamaConfig

from rec.align import memory
from rec.align.pairs import TokenPair
from tests.align.settings import SETTINGS

CONFIG = LlamaConfig(
    hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9
)
PAIRS = [TokenPair([1] * 370, [2] * 100, [3] * 100)]


@pytest.mark.parametrize(("free", "expected"), [(64e9, False), (1e9, True)])
def test_decision(monkeypatch: pytest.MonkeyPatch, free: float, expected: bool) -> None:
    monkeypatch.setattr(memory, "device", lambda: "cpu")
    monkeypatch.setattr(memory, "available_memory", lambda: int(free))
    assert memory.checkpoint_activations(CONFIG, PAIRS, SETTINGS) is expected


def test_estimate_grows_with_the_batch() -> None:
    def bytes_of(size: int = 4, **changes: Any) -> int:
        settings = replace(SETTINGS, **changes)
        return memory.activation_bytes(CONFIG, settings.batch_size * 570, 570, size)

    assert bytes_of(batch_size=4) == pytest.approx(2 * bytes_of(batch_size=2), rel=1e-6)
    assert bytes_of(2) < bytes_of(4)
