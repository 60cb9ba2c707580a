"""Adaptors: frozen text vectors into the space of the re-ranker (KAR, section 4.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rec.rerank.dropout import dropout


class Adaptor(nn.Module):
    """What all adaptors share: vectors are centred before they are adapted, and of one length.

    `calibrate` takes the mean of each source from training data, so that what all texts share does
    not drown what sets them apart. Vectors are frozen: `centred` is called once for all of them.
    """

    mean: Tensor

    def __init__(self, dimension: int, sources: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(sources, dimension))

    def calibrate(self, source: int, vectors: Tensor) -> None:
        """Take the mean of a source from vectors [n, dimension] of training data."""
        self.mean[source] = vectors.float().mean(0)

    def centred(self, vectors: Tensor, source: int) -> Tensor:
        """Vectors [..., dimension] of a source without their mean, float16.

        Their length is the root of the dimension, so that the mean square of an entry is 1; a
        vector that equals the mean stays 0.
        """
        values = functional.normalize(vectors.float() - self.mean[source], dim=-1)
        return (values * math.sqrt(vectors.shape[-1])).half()


class HybridExperts(Adaptor):
    """Shared and dedicated experts per source, mixed by a gate (KAR, arXiv 2306.10933, eq. 5-6).

    Sources are the items' texts (0) and the users' texts. Each expert is a two-layer perceptron,
    dimension to hidden to width. A source's output is the sum of the shared experts and of its own,
    weighted by a softmax gate that reads the same vector. Unlike KAR's code there is no ReLU after
    the last layer, so that no output can die, and a vector is adapted once, not once per place of a
    list. Experts of one group run side by side as one product: their second layers stacked sum over
    them.

    Parameters: (shared + sources * specific) * (dimension * hidden + hidden + hidden * width +
    width) and, per source, a gate of (dimension + 1) * (shared + specific).
    """

    def __init__(
        self,
        dimension: int,
        width: int,
        hidden: int,
        shared: int,
        specific: int,
        sources: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dimension, sources)
        self._counts = (shared, specific)
        self.shared = Experts(dimension, width, hidden, shared, dropout)
        self.own = nn.ModuleList(
            Experts(dimension, width, hidden, specific, dropout) for _ in range(sources)
        )
        self.gates = nn.ModuleList(nn.Linear(dimension, shared + specific) for _ in range(sources))

    def forward(self, vectors: Tensor, source: int) -> Tensor:
        """Adapt centred vectors [n, dimension] of one source to [n, width]."""
        shared, own = self.gates[source](vectors).softmax(-1).split(self._counts, dim=-1)
        adapted: Tensor = self.shared(vectors, shared) + self.own[source](vectors, own)
        return adapted


class Experts(nn.Module):
    """Two-layer perceptrons of the same input; `forward` is their sum, weighted per row."""

    def __init__(self, dimension: int, width: int, hidden: int, count: int, dropout: float) -> None:
        super().__init__()
        self.count, self.dropout = count, dropout
        self.first = nn.Linear(dimension, count * hidden)
        self.second = nn.Parameter(torch.empty(width, count * hidden))
        self.bias = nn.Parameter(torch.empty(count, width))
        bound = hidden**-0.5
        nn.init.uniform_(self.second, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """[n, dimension] and weights [n, count] to [n, width]."""
        hidden = functional.relu(self.first(vectors))
        hidden = dropout(hidden, self.dropout, self.training)
        experts = torch.unflatten(hidden, -1, (self.count, -1))
        weighted = experts * weights.unsqueeze(-1).to(hidden.dtype)
        return functional.linear(weighted.flatten(1), self.second) + weights @ self.bias


class Perceptrons(Adaptor):
    """A plain two-layer perceptron per source: dimension to hidden to width.

    Parameters per source: (dimension + 1) * hidden + (hidden + 1) * width.
    """

    def __init__(
        self, dimension: int, width: int, hidden: int, sources: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__(dimension, sources)
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(dimension, hidden),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, width),
            )
            for _ in range(sources)
        )

    def forward(self, vectors: Tensor, source: int) -> Tensor:
        """Adapt centred vectors [n, dimension] of one source to [n, width]."""
        adapted: Tensor = self.networks[source](vectors)
        return adapted
