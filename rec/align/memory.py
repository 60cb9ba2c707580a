"""Whether activations fit this machine, or must be computed again in the backward pass."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from rec.align.pairs import TokenPair
from rec.align.policy import use_bf16
from rec.config import Align
from rec.machine import available_memory, device


def checkpoint_activations(config: Any, pairs: Sequence[TokenPair], settings: Align) -> bool:
    """Whether to keep only the layers' inputs: where all activations would take half the memory."""
    if device() == "cuda":
        free, _ = torch.cuda.mem_get_info()
    else:
        free = available_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    longest = max(len(p.prompt) + len(p.chosen) + len(p.rejected) for p in pairs)
    tokens = settings.batch_size * longest
    return activation_bytes(config, tokens, longest, 2 if use_bf16(settings) else 4) > free / 2


def activation_bytes(config: Any, tokens: int, longest: int, size: int) -> int:
    """About what a step keeps for its backward pass: `tokens` in all, `longest` in a pair.

    Per token and layer some 16 vectors of the hidden size (of which the norms keep two in fp32) and
    5 of the MLP's, and on a CPU the attention weights of each head; per scored token, at most half
    of all, a row of the vocabulary in fp32.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    attention = 0 if device() == "cuda" else 2 * config.num_attention_heads * longest
    layer = tokens * (16 * hidden + 5 * inner + attention) * size
    return int(config.num_hidden_layers * layer + tokens / 2 * config.vocab_size * 4)
