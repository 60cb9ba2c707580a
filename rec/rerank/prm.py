"""PRM, the personalised re-ranking model (arXiv 1904.06813), with room for knowledge.

Each item of a list is an id embedding, its categories, the user's last interactions as this item
attends to them, and its place in the initial list. The history attention is the same with and
without knowledge, so that "no knowledge" is a personalised baseline. Knowledge enters as the
adapted text vector of the item, of the user, and their product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rec.config import Ranker
from rec.rerank.adaptor import Adaptor
from rec.rerank.features import Batch

ITEMS, USERS = 0, 1  # sources of the adaptor
#: Share of a user vector's entries, and of whole user vectors, that training hides. Users are few,
#: and a vector per user is learned by heart: without this, texts that help turn into a loss.
HIDDEN_ENTRIES, HIDDEN_USERS = 0.5, 0.5


@dataclass(frozen=True)
class Shape:
    """Sizes that the data gives to a re-ranker."""

    items: int
    categories: int
    dimension: int = 0  # of text vectors; 0: no knowledge
    users: bool = False  # whether texts about users are given


class PRM(nn.Module):
    """A re-ranker of lists of any length: `forward(batch)` gives a score per item."""

    def __init__(self, shape: Shape, config: Ranker) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        hidden, item = config.hidden, 2 * config.embedding
        self.item = nn.Embedding(shape.items + 1, config.embedding, padding_idx=0)
        nn.init.normal_(self.item.weight, std=0.1)
        self.category = nn.Linear(shape.categories, config.embedding, bias=False)
        self.attention = HistoryAttention(item, hidden, config.heads)
        sources = 0
        if shape.dimension:
            sources = 3 if shape.users else 1
            self.adaptor = Adaptor(
                shape.dimension,
                config.knowledge,
                hidden,
                config.experts_shared,
                config.experts_specific,
                sources=2 if shape.users else 1,
                dropout=config.dropout,
                input_dropout=(0.0, HIDDEN_ENTRIES),
            )
        self.mix = nn.Linear(item + 2 * hidden + sources * config.knowledge, hidden)
        self.position = nn.Linear(hidden, hidden, bias=False)
        self.blocks = nn.ModuleList(
            Block(hidden, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(hidden)
        self.score = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, batch: Batch) -> Tensor:
        """Scores [B, n] of a batch; minus infinity at padding."""
        mask = batch.mask
        candidates = self._items(batch.items, batch.categories)
        attended = self.attention(
            candidates,
            self._items(batch.history, batch.categories),
            batch.ratings,
            batch.history > 0,
        )
        parts = [candidates, attended, *self._knowledge(batch)]
        places = sinusoids(batch.items.shape[1], self.config.hidden, batch.items.device)
        states = self.mix(torch.cat(parts, dim=-1)) + self.position(places)
        for block in self.blocks:
            states = block(states, mask)
        scores: Tensor = self.score(self.norm(states)).squeeze(-1)
        return scores.masked_fill(~mask, -torch.inf)

    def _items(self, items: Tensor, categories: Tensor) -> Tensor:
        multi_hot = functional.embedding(items, categories)
        return torch.cat([self.item(items), self.category(multi_hot)], dim=-1)

    def _knowledge(self, batch: Batch) -> list[Tensor]:
        """Adapted vectors, each distinct item and each user's response computed once."""
        if not self.shape.dimension:
            return []
        assert batch.item_vectors is not None
        distinct, place = torch.unique(batch.items, return_inverse=True)
        items = functional.embedding(place, self.adaptor(batch.item_vectors[distinct], ITEMS))
        if not self.shape.users:
            return [items]
        assert batch.user_vectors is not None
        adapted = self.adaptor(batch.user_vectors, USERS)
        if self.training:
            adapted = adapted * (torch.rand_like(adapted[:, :1]) >= HIDDEN_USERS)
        users = adapted.unsqueeze(1).expand_as(items)
        return [items, users, items * users]


class HistoryAttention(nn.Module):
    """Each candidate attends to the user's last interactions (target attention).

    An interaction is its item and its rating in -1 to 1, which also scales a second view of the
    item, so that a liked and a disliked item can pull in opposite directions. One learned slot
    stands beside the history: an empty history is attended as that slot alone.
    """

    def __init__(self, item: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(item, hidden)
        self.keys = nn.Linear(2 * item + 1, 2 * hidden)
        self.empty = nn.Parameter(torch.zeros(2 * hidden))

    def forward(self, candidates: Tensor, history: Tensor, ratings: Tensor, mask: Tensor) -> Tensor:
        """[B, n, item], [B, H, item], [B, H], [B, H] to [B, n, 2 * hidden]: attended, and matched.

        The second half is the product of the attended history and the candidate's query.
        """
        rating = ratings.unsqueeze(-1)
        pairs = self.keys(torch.cat([history, history * rating, rating], dim=-1))
        pairs = torch.cat([self.empty.expand(len(pairs), 1, -1), pairs], dim=1)
        mask = functional.pad(mask, (1, 0), value=True)
        keys, values = pairs.chunk(2, dim=-1)
        query = self.query(candidates)
        attended = attend(query, keys, values, mask, self.heads)
        return torch.cat([attended, attended * query], dim=-1)


class Block(nn.Module):
    """A transformer encoder block: self-attention and feed-forward net, residual and pre-norm."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before_attention = nn.LayerNorm(hidden)
        self.projections = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)
        self.before_network = nn.LayerNorm(hidden)
        self.network = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden)
        )

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """[B, n, hidden] to the same shape; padding is not attended to."""
        query, keys, values = self.projections(self.before_attention(states)).chunk(3, dim=-1)
        attended = self.output(attend(query, keys, values, mask, self.heads))
        states = states + functional.dropout(attended, self.dropout, self.training)
        out = self.network(self.before_network(states))
        return states + functional.dropout(out, self.dropout, self.training)


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Multi-head attention of [B, n, hidden] over [B, m, hidden] where `mask` [B, m] is True."""

    def split(states: Tensor) -> Tensor:
        rows, length, hidden = states.shape
        return states.view(rows, length, heads, hidden // heads).transpose(1, 2)

    attended = functional.scaled_dot_product_attention(
        split(query), split(keys), split(values), attn_mask=mask[:, None, None, :]
    )
    return attended.transpose(1, 2).flatten(2)


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """The fixed position table of the transformer, [length, width]: it has no longest list."""
    places = torch.arange(length, device=device).unsqueeze(1)
    rates = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2, device=device) / width)
    angles = places * rates
    table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
    return table[:, :width]


def log_likelihood(scores: Tensor, labels: Tensor) -> Tensor:
    """Listwise log-likelihood of the labels, [B]: the mean of the positives' log softmax.

    `scores` [B, n] are minus infinity at padding. Graded labels weigh in proportion. 0 without a
    positive. Its negative is the loss of PRM (arXiv 1904.06813, section 4.5).

    Two equal scores: each has probability 1/2.

    >>> log_likelihood(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    tensor([-0.6931])
    """
    log_softmax = scores.log_softmax(-1).masked_fill(scores == -torch.inf, 0.0)
    weights = labels / labels.sum(-1, keepdim=True).clamp(min=1.0)
    return (weights * log_softmax).sum(-1)
