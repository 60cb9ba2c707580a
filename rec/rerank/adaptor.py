"""The hybrid-expert adaptor: text vectors into the space of the re-ranker (KAR, section 4.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Adaptor(nn.Module):
    """Shared and dedicated experts per source, mixed by a gate (KAR, arXiv 2306.10933, eq. 5-6).

    Sources are texts about items (0) and about users (1). Each expert is a two-layer perceptron. A
    source's output is the sum of the shared experts and of its own, weighted by a softmax gate that
    reads the same vector. Unlike KAR's code there is no ReLU after the last layer, so that no
    output can die.

    A vector is first centred on the mean that `calibrate` saw for its source and scaled to unit
    variance, so that what all texts share does not drown what sets them apart.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        dimension: int,
        width: int,
        hidden: int,
        shared: int,
        specific: int,
        sources: int = 2,
        dropout: float = 0.0,
        input_dropout: Sequence[float] = (0.0, 0.0),
    ) -> None:
        super().__init__()
        self._hidden = hidden
        self._experts = shared + specific
        total = shared + specific * sources
        own = [
            [shared + source * specific + e for e in range(specific)] for source in range(sources)
        ]
        self._members = [[*range(shared), *experts] for experts in own]
        self.first = nn.ModuleList(nn.Linear(dimension, hidden) for _ in range(total))
        self.second = nn.ModuleList(nn.Linear(hidden, width) for _ in range(total))
        self.gates = nn.ModuleList(nn.Linear(dimension, self._experts) for _ in range(sources))
        self.dropout, self.input_dropout = dropout, tuple(input_dropout)
        self.register_buffer("mean", torch.zeros(sources, dimension))
        self.register_buffer("scale", torch.ones(sources))

    def calibrate(self, source: int, vectors: Tensor) -> None:
        """Take the mean and the spread of a source from vectors [n, dimension] of training data."""
        values = vectors.float()
        mean = values.mean(0)
        spread = (values - mean).pow(2).mean().sqrt()
        self.mean[source] = mean
        self.scale[source] = 1.0 / spread.clamp(min=1e-4)

    def forward(self, vectors: Tensor, source: int) -> Tensor:
        """Adapt [n, dimension] vectors of one source to [n, width].

        The experts run as one product: their first layers side by side, then the gate-weighted
        hidden units through their second layers stacked, which sums over experts.
        """
        x = (vectors.float() - self.mean[source]) * self.scale[source]
        x = functional.dropout(x, self.input_dropout[source], self.training)
        members = self._members[source]
        weight = torch.cat([self.first[e].weight for e in members] + [self.gates[source].weight])
        bias = torch.cat([self.first[e].bias for e in members] + [self.gates[source].bias])
        out = functional.linear(x, weight, bias)
        hidden, logits = out[:, : -self._experts], out[:, -self._experts :]
        gate = logits.softmax(-1)
        hidden = functional.dropout(functional.gelu(hidden), self.dropout, self.training)
        mixed = hidden.view(len(x), self._experts, self._hidden) * gate.unsqueeze(-1)
        second = torch.cat([self.second[e].weight for e in members], dim=1)
        offset = gate @ torch.stack([self.second[e].bias for e in members])
        return functional.linear(mixed.flatten(1), second) + offset
