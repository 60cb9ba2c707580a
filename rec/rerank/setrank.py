"""SetRank (arXiv 1912.05891)."""

from __future__ import annotations

from torch import Tensor, nn

from rec.config import Ranker
from rec.rerank.attention import Block
from rec.rerank.dropout import dropout
from rec.rerank.losses import attention_rank


class SetRank(nn.Module):
    """Multi-head self-attention blocks over the set of items (SetRank-MSAB, section 4.2).

    It knows neither positions nor the ordinal embeddings of an initial ranking, an option of the
    paper (section 4.1): permuting the list permutes the scores (section 4.4). A row-wise
    feed-forward net gives the score (section 4.3).

    KAR's code differs: one attention layer without residual, norm and feed-forward net, its states
    next to its input in a perceptron; and a loss that gives no gradient to scores below 0.

    Parameters, with h = hidden: 8h² + 11h per block, h² + 2h + 1 of the score.
    """

    loss = staticmethod(attention_rank)

    def __init__(self, config: Ranker) -> None:
        super().__init__()
        hidden = config.hidden
        self.dropout = config.dropout
        self.blocks = nn.ModuleList(
            Block(hidden, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.score = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Scores [B, n] of items [B, n, hidden], which are real where `mask` [B, n] is True."""
        states = dropout(states, self.dropout, self.training)
        for block in self.blocks:
            states = block(states, mask)
        scores: Tensor = self.score(states).squeeze(-1)
        return scores
