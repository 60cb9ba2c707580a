"""Attention over lists and histories, as several re-rankers use it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rec.rerank.dropout import dropout


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Multi-head attention of [B, n, hidden] over [B, m, hidden] where `mask` [B, m] is True.

    Lists are short: plain products, in the precision of autocast, are faster than a fused kernel.
    A softmax over the last dimension but one is several times faster than over a short last one.
    """
    query = query * (query.shape[-1] // heads) ** -0.5
    query, keys, values = (_by_head(part, heads) for part in (query, keys, values))
    hidden = torch.zeros_like(mask, dtype=keys.dtype).masked_fill(~mask, -1e9)
    hidden = hidden.repeat_interleave(heads, 0).unsqueeze(-1)
    weights = torch.baddbmm(hidden, keys, query.transpose(1, 2)).softmax(1)
    attended = torch.unflatten(weights.transpose(1, 2) @ values, 0, (-1, heads))
    return attended.transpose(1, 2).flatten(2)


def _by_head(states: Tensor, heads: int) -> Tensor:
    """[B, n, hidden] to [B * heads, n, hidden / heads]."""
    return torch.unflatten(states, -1, (heads, -1)).transpose(1, 2).flatten(0, 1)


def reordered(states: Tensor, places: Tensor) -> Tensor:
    """Rows of [B, n, hidden] by their places [B, n] in each list.

    Whole rows are copied, which is several times faster than `gather`, forward and back.
    """
    batch, size = places.shape
    starts = torch.arange(0, batch * size, size, device=places.device).unsqueeze(1)
    return functional.embedding(starts + places, states.flatten(0, 1))


class SelfAttention(nn.Module):
    """Multi-head self-attention (arXiv 1706.03762, section 3.2) of [B, n, hidden]."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """[B, n, hidden] to the same shape; padding, where `mask` is False, is not attended to."""
        query, keys, values = self.projections(states).chunk(3, dim=-1)
        output: Tensor = self.output(attend(query, keys, values, mask, self.heads))
        return output


class Block(nn.Module):
    """An encoder block of the transformer (arXiv 1706.03762, section 3.1), norms behind the sums.

    It is the encoder of PRM (arXiv 1904.06813, section 4.3), and SetRank's multi-head
    self-attention block, MAB(X, X) (arXiv 1912.05891, section 4.2).
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention = SelfAttention(hidden, heads)
        self.after_attention = nn.LayerNorm(hidden)
        self.network = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, hidden)
        )
        self.after_network = nn.LayerNorm(hidden)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """[B, n, hidden] to the same shape; padding is not attended to."""
        attended = dropout(self.attention(states, mask), self.dropout, self.training)
        states = self.after_attention(states + attended)
        out = dropout(self.network(states), self.dropout, self.training)
        result: Tensor = self.after_network(states + out)
        return result


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """The fixed position table of the transformer, [length, width]: it has no longest list."""
    places = torch.arange(length, device=device).unsqueeze(1)
    rates = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2, device=device) / width)
    angles = places * rates
    table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
    return table[:, :width]
