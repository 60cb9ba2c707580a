"""A tiny LLM that writes whole words, so that its tokens can be read back from its text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.llm.tiny import CHATML, WORDS, make_model, vocabulary, write_gguf

SPACE = "\u0120"  # what byte-level BPE writes for a blank


def spaced_vocabulary() -> tuple[list[str], list[str]]:
    """The vocabulary of `tests.llm.tiny`, with a blank merged into its word as in real ones."""
    tokens, merges = vocabulary()
    return tokens, sorted(merges, key=lambda merge: not merge.startswith(SPACE))


def make_wordy(path: Path, *ends: str, template: str = CHATML) -> Any:
    """Write a GGUF whose model can write words and `ends` alone; return it for transformers."""
    model = make_model("qwen2", 3)
    tokens, _ = spaced_vocabulary()
    kept = [tokens.index(SPACE + word) for word in WORDS.split()]
    kept_ends = [tokens.index(end) for end in ends]
    with torch.no_grad():
        weights = model.lm_head.weight.clone()
        model.lm_head.weight.zero_()
        model.lm_head.weight[kept] = weights[kept]
        # Likelier than two words, wherever these would be written.
        model.lm_head.weight[kept_ends] = 1.2 * (weights[kept[2]] + weights[kept[3]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.llm.tiny.vocabulary", spaced_vocabulary)
        write_gguf(path, model, template=template)
    return model
