"""MIR, multi-level interaction re-ranking with the user's history (arXiv 2204.09370)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rec.config import Ranker
from rec.rerank.attention import SelfAttention, reordered
from rec.rerank.dropout import dropout
from rec.rerank.losses import pointwise

FIELDS = 4  # parts of a vector that interact with each other as features


class MIR(nn.Module):
    """Candidates as a set, the history as a list, and attention between them (SLAttention).

    Cross-item interaction: self-attention over the set gives V = [x, attended x], LSTMs in both
    directions over the history give Q = [q, states]. Set-to-list interaction: the affinity of item
    i and interaction j is tanh of V_i W Q_j (items) plus the weighted affinities of all pairs of
    their fields (features). Each item gathers the history by the softmax of its affinities, less a
    rate times the age of the interaction, which the history decides (long and short interests);
    each interaction gathers the set. A perceptron scores [V_i, history as i sees it, set as the
    history sees it]. Permuting the candidates permutes the scores; the order of the history
    matters.

    It departs from the paper where the paper maps affinities once more before its softmax, and
    multiplies them by the decay: there an old interaction of negative affinity would gain weight.

    KAR's code differs: a GRU in place of the LSTM; no fading; attention weights with a column per
    place, which make scores depend on the order of the set; and its adaptor's output goes unused.

    Parameters, with h = hidden: 4h² + 4h of self-attention, 6h² + 8h of the LSTM (two
    directions of h / 2), 4h² + h² / 4 + 16 of affinities, h + 1 of fading, 12h² + 4h + 1 of the
    perceptron.
    """

    loss = staticmethod(pointwise)

    def __init__(self, config: Ranker) -> None:
        super().__init__()
        hidden = config.hidden
        self.dropout = config.dropout
        self.attention = SelfAttention(hidden, config.heads)
        self.forwards = nn.LSTM(hidden, hidden // 2, batch_first=True)
        self.backwards = nn.LSTM(hidden, hidden // 2, batch_first=True)
        self.items = nn.Linear(2 * hidden, 2 * hidden, bias=False)
        self.features = nn.Linear(2 * hidden // FIELDS, 2 * hidden // FIELDS, bias=False)
        self.fields = nn.Parameter(torch.full((FIELDS, FIELDS), 1.0 / FIELDS))
        self.fading = nn.Linear(hidden, 1)
        self.score = nn.Sequential(
            nn.Linear(6 * hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, 1)
        )

    def forward(self, states: Tensor, mask: Tensor, history: Tensor, past: Tensor) -> Tensor:
        """Scores [B, n] of items [B, n, hidden] with histories [B, H, hidden], oldest first.

        Items are real where `mask` [B, n] is True, interactions where `past` [B, H] is; a history
        is padded on the left.
        """
        states = dropout(states, self.dropout, self.training)
        candidates = torch.cat([states, self.attention(states, mask)], dim=-1)
        history = history * past.unsqueeze(-1)
        read = self._read(history, past) * past.unsqueeze(-1)
        interactions = torch.cat([history, read], dim=-1)
        affinity = self._affinity(candidates, interactions)
        age = torch.arange(past.shape[1] - 1, -1, -1, device=past.device, dtype=affinity.dtype)
        faded = affinity - self._fading(history, past) * age
        seen = _weights(faded, past.unsqueeze(1), 2) @ interactions
        gathered = _weights(affinity, mask.unsqueeze(2), 1).transpose(1, 2) @ candidates
        whole = (gathered * past.unsqueeze(-1)).sum(1) / past.sum(1, keepdim=True).clamp(min=1)
        return self._score(torch.cat([candidates, seen], dim=-1), whole)

    def _read(self, history: Tensor, past: Tensor) -> Tensor:
        """States [B, H, hidden] of both directions, each of which reads the padding last."""
        length = past.shape[1]
        padding = length - past.sum(1, keepdim=True)
        places = torch.arange(length, device=past.device)
        forwards, _ = self.forwards(reordered(history, (places + padding) % length))
        forwards = reordered(forwards, (places - padding) % length)
        backwards, _ = self.backwards(history.flip(1))
        return torch.cat([forwards, backwards.flip(1)], dim=-1)

    def _affinity(self, candidates: Tensor, interactions: Tensor) -> Tensor:
        """[B, n, 2h] and [B, H, 2h] to [B, n, H]: of items and of features, in -1 to 1."""
        items = self.items(candidates)
        features = self.features(_fields(candidates)).flatten(-2)
        mixed = torch.einsum("fg,bjgd->bjfd", self.fields, _fields(interactions)).flatten(-2)
        affinity = (items @ interactions.transpose(1, 2)) + (features @ mixed.transpose(1, 2))
        return torch.tanh(affinity / interactions.shape[-1] ** 0.5)

    def _fading(self, history: Tensor, past: Tensor) -> Tensor:
        """How fast interactions lose weight, by the mean of the history: [B, 1, 1], 0 or more."""
        mean = history.sum(1) / past.sum(1, keepdim=True).clamp(min=1)
        rate: Tensor = functional.softplus(self.fading(mean) - 2.0)
        return rate.unsqueeze(-1)

    def _score(self, items: Tensor, whole: Tensor) -> Tensor:
        """The perceptron over [B, n, 4h] of each item and [B, 2h] of its list, once per list."""
        first = self.score[0]
        assert isinstance(first, nn.Linear)
        own, shared = first.weight.tensor_split((items.shape[-1],), dim=1)
        context = functional.linear(whole, shared, first.bias).unsqueeze(1)
        scores: Tensor = self.score[1:](functional.linear(items, own) + context).squeeze(-1)
        return scores


def _fields(vectors: Tensor) -> Tensor:
    return torch.unflatten(vectors, -1, (FIELDS, -1))


def _weights(affinity: Tensor, mask: Tensor, dimension: int) -> Tensor:
    """Softmax of affinities over what is real; zeros where nothing is."""
    logits = affinity.masked_fill(~mask, -1e9)
    return logits.softmax(dimension) * mask
