"""DLCM, the deep listwise context model (arXiv 1804.05936)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rec.config import Ranker
from rec.rerank.attention import reordered
from rec.rerank.dropout import dropout
from rec.rerank.losses import attention_rank


class DLCM(nn.Module):
    """A GRU reads the list from its last item to its first; each item is scored in that context.

    Section 4.2: the GRU gives an output o_i per item; its state after the first item, which it
    reads last, is the list's context s_n. Section 4.3: the score is V (o_i · tanh(W s_n + b)):
    W gives k = 2 vectors, V weighs their products with o_i. The order of the list matters.

    KAR's code differs: it reads the list forwards, puts batch norms before the product (which break
    on a batch of one), takes a softmax of two outputs, and trains item by item.

    Parameters, with h = hidden: 6h² + 6h of the GRU, 2h² + 2h of W and b, 2 of V.
    """

    UNITS = 2  # k of section 4.3
    loss = staticmethod(attention_rank)

    def __init__(self, config: Ranker) -> None:
        super().__init__()
        hidden = config.hidden
        self.dropout = config.dropout
        self.reader = nn.GRU(hidden, hidden, batch_first=True)
        self.context = nn.Linear(hidden, self.UNITS * hidden)
        self.weigh = nn.Linear(self.UNITS, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Scores [B, n] of items [B, n, hidden], which are real where `mask` [B, n] is True."""
        backwards = _backwards(mask)
        states = dropout(states, self.dropout, self.training)
        read, _ = self.reader(reordered(states, backwards))
        outputs = reordered(read, backwards)
        context = torch.tanh(self.context(outputs[:, 0])).view(len(states), self.UNITS, -1)
        weights = self.weigh(context.transpose(1, 2))
        scores: Tensor = (outputs @ weights).squeeze(-1)
        return scores


def _backwards(mask: Tensor) -> Tensor:
    """For each list the places of its items from last to first, padding left where it is: [B, n].

    It is its own inverse.
    """
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    reversed_places = mask.sum(1, keepdim=True) - 1 - places
    return torch.where(mask, reversed_places, places)
