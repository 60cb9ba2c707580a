"""Attention over a packed batch of pairs, as an attention function of transformers.

In a segment [shared | chosen | rejected] a token sees the tokens before it, except that the rest of
the rejected response does not see the chosen one. On a GPU that is one call of torch's scaled
dot-product attention for all pairs (or for some thousands of their tokens): launches cost more
there than the products that a mask throws away. On a CPU it is plain matrix products over blocks of
queries, with the query heads of a key head side by side, so that keys are not repeated: the fused
kernel took twice as long for 570 tokens in bf16 (`python -m bench.alignment --part attention`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from rec.align.packing import Segment
from rec.errors import RecError

NAME = "preference_pairs"
#: Tokens that a GPU attends together: the products grow with its square, the launches do not.
TOGETHER = 8192
#: Not cuDNN's, which torch prefers on Hopper: with a mask its gradients can be NaN for lengths that
#: leave 64 when divided by 128, where a model's scores are far below zero (Qwen2.5's are).
KERNELS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
BLOCK = 192  # queries of a block: more waste work above the diagonal, fewer make small products


@dataclass(frozen=True)
class Block:
    """Queries [first, last) of a segment, which see some of its first `width` keys."""

    first: int
    last: int
    width: int
    hidden: Tensor  # bool [last - first, width]: keys that a query must not see


class Layout:
    """Where the pairs of a packed batch lie, and what hides them from each other in all layers."""

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self.segments = segments
        self._biases: dict[torch.dtype, list[list[tuple[Block, Tensor]]]] = {}
        self._groups: dict[torch.dtype, list[tuple[slice, Tensor]]] = {}

    def biases(self, dtype: torch.dtype) -> list[list[tuple[Block, Tensor]]]:
        """The blocks of each segment, with 0 for keys to see and the type's lowest for others."""
        if dtype not in self._biases:
            self._biases[dtype] = [
                [(block, _bias(block.hidden, dtype)) for block in blocks(segment)]
                for segment in self.segments
            ]
        return self._biases[dtype]

    def groups(self, dtype: torch.dtype, device: torch.device) -> list[tuple[slice, Tensor]]:
        """Neighbouring pairs, of `TOGETHER` tokens at most or one pair, and what hides what there.

        Each comes as its place in the batch and what is added to the scores of its n tokens,
        [n, n]: 0 for keys to see, else minus infinity.
        """
        if dtype not in self._groups:
            grouped: list[list[Segment]] = []
            for segment in self.segments:
                end = segment.start + segment.length
                if not grouped or end - grouped[-1][0].start > TOGETHER:
                    grouped.append([])
                grouped[-1].append(segment)
            self._groups[dtype] = [_together(group, dtype, device) for group in grouped]
        return self._groups[dtype]


def _together(
    segments: list[Segment], dtype: torch.dtype, device: torch.device
) -> tuple[slice, Tensor]:
    """A group of pairs as `Layout.groups` gives it; fused kernels want rows of whole 16 entries."""
    first, last = segments[0], segments[-1]
    total = last.start + last.length - first.start
    bias = torch.full((total, -(-total // 16) * 16), -torch.inf, dtype=dtype, device=device)
    for segment in segments:
        start = segment.start - first.start
        own = slice(start, start + segment.length)
        hidden = _hidden(segment, device)
        bias[own, own] = torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, -torch.inf)
    return slice(first.start, first.start + total), bias[:, :total]


def _bias(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, torch.finfo(dtype).min)


def blocks(segment: Segment) -> list[Block]:
    """The shared part in blocks of about BLOCK queries, then both responses in one."""
    shared, total = segment.shared, segment.length
    hidden = _hidden(segment, torch.device("cpu"))
    count = max(1, round(shared / BLOCK))
    edges = [shared * number // count for number in range(count + 1)]
    found = [(first, last, last) for first, last in pairwise(edges)]
    if total > shared:
        found.append((shared, total, total))
    return [Block(first, last, width, hidden[first:last, :width]) for first, last, width in found]


def _hidden(segment: Segment, device: torch.device) -> Tensor:
    """Bool [length, length]: which keys of its pair each token must not see."""
    hidden = torch.ones(segment.length, segment.length, dtype=torch.bool, device=device).triu(1)
    rejected = segment.shared + segment.chosen
    hidden[rejected:, segment.shared : rejected] = True
    return hidden


def pair_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    layout: Layout,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each pair: query [1, heads, T, size], key and value [1, key heads, T, size].

    Returns [1, T, heads, size]. Raises RecError where a pair is longer than a sliding window, and
    for models that cap the scores or have attention sinks.
    """
    if softcap is not None or s_aux is not None:
        raise RecError("align: models with capped attention or sinks are not supported")
    longest = max(s.shared + max(s.chosen, s.rejected) for s in layout.segments)
    if sliding_window is not None and longest > sliding_window:
        raise RecError(
            f"align: a pair has {longest} tokens, the model's window is {sliding_window}"
        )
    if query.device.type == "cpu":
        found = _in_blocks(query[0], key[0], value[0], layout, scaling, dropout)
    else:
        found = _fused(query, key, value, layout, scaling, dropout)
    return found, None


def _in_blocks(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float, dropout: float
) -> Tensor:
    heads, total, size = query.shape
    key_heads = key.shape[0]
    grouped = query.reshape(key_heads, heads // key_heads, total, size)
    found = []
    for segment, parts in zip(layout.segments, layout.biases(query.dtype), strict=True):
        start = segment.start
        for block, bias in parts:
            asked = grouped[:, :, start + block.first : start + block.last]
            seen = slice(start, start + block.width)
            found.append(_attend(asked, key[:, seen], value[:, seen], bias, scaling, dropout))
    return torch.cat(found, 2).reshape(1, heads, total, size).transpose(1, 2)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float, dropout: float
) -> Tensor:
    """Attention of query [K, G, q, size] to key and value [K, k, size] with bias [q, k]."""
    key_heads, group, count, size = query.shape
    flat = query.reshape(key_heads, group * count, size)
    scores = torch.bmm(flat, key.transpose(1, 2)).view(key_heads, group, count, -1)
    weights = torch.softmax(torch.add(bias, scores, alpha=scaling), -1)
    if dropout:
        weights = drop(weights, dropout)
    mixed = torch.bmm(weights.view(key_heads, group * count, -1), value)
    return mixed.view(key_heads, group, count, size)


def _fused(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float, dropout: float
) -> Tensor:
    group = query.shape[1] // key.shape[1]  # the kernels that take a mask take no grouped heads
    keys, values = (part.repeat_interleave(group, 1) for part in (key, value))
    attend = partial(scaled_dot_product_attention, scale=scaling, dropout_p=dropout)
    with sdpa_kernel(KERNELS):
        found = [
            attend(query[:, :, own], keys[:, :, own], values[:, :, own], attn_mask=bias)
            for own, bias in layout.groups(query.dtype, query.device)
        ]
    return torch.cat(found, 2).transpose(1, 2)


AttentionInterface.register(NAME, pair_attention)
