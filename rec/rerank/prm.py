"""PRM, the personalised re-ranking model (arXiv 1904.06813)."""

from __future__ import annotations

from torch import Tensor, nn

from rec.config import Ranker
from rec.rerank.attention import Block, sinusoids
from rec.rerank.dropout import dropout
from rec.rerank.losses import likelihood_of_clicks


class PRM(nn.Module):
    """Transformer encoder over the list with positions (sections 4.2 to 4.4).

    Input layer: an item's vector, which holds what is known of the user (the paper's personalised
    vector), and its place in the initial list. The paper learns a vector per place; here it is a
    linear map of the transformer's sinusoids, which have no longest list. Encoder: `layers` blocks.
    Output: a linear score per item, whose softmax the loss takes. The order of the list matters.

    KAR's code differs: one attention layer without residual, norm and feed-forward net, its states
    next to its input in a perceptron of 200 and 80 units, and a loss item by item.

    Parameters, with h = hidden: h² of positions, 8h² + 11h per block, h + 1 of the score.
    """

    loss = staticmethod(likelihood_of_clicks)

    def __init__(self, config: Ranker) -> None:
        super().__init__()
        hidden = config.hidden
        self.dropout = config.dropout
        self.position = nn.Linear(hidden, hidden, bias=False)
        self.blocks = nn.ModuleList(
            Block(hidden, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.score = nn.Linear(hidden, 1)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Scores [B, n] of items [B, n, hidden], which are real where `mask` [B, n] is True."""
        places = sinusoids(states.shape[1], states.shape[2], states.device)
        states = states + self.position(places)
        states = dropout(states, self.dropout, self.training)
        for block in self.blocks:
            states = block(states, mask)
        scores: Tensor = self.score(states).squeeze(-1)
        return scores
