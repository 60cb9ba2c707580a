"""Losses of lists: every function takes scores [B, n], labels [B, n] and gives a loss [B].

Scores are minus infinity at padding, where labels are 0.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]


def log_likelihood(scores: Tensor, labels: Tensor) -> Tensor:
    """Listwise log-likelihood of the labels, [B]: the mean of the positives' log softmax.

    Graded labels weigh in proportion. 0 without a positive.

    Two equal scores: each has probability 1/2.

    >>> import torch
    >>> log_likelihood(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    tensor([-0.6931])
    """
    log_softmax = scores.log_softmax(-1).masked_fill(scores.isneginf(), 0.0)
    return (_shares(labels) * log_softmax).sum(-1)


def listwise(scores: Tensor, labels: Tensor) -> Tensor:
    """Listwise softmax loss, minus the log-likelihood: every list counts the same."""
    return -log_likelihood(scores, labels)


def likelihood_of_clicks(scores: Tensor, labels: Tensor) -> Tensor:
    """PRM's loss (arXiv 1904.06813, section 4.5): minus the sum of the positives' log softmax.

    A list counts as many times as it has positives; graded labels weigh in proportion.

    Two equal scores, both liked: log 2 for each.

    >>> import torch
    >>> likelihood_of_clicks(torch.zeros(1, 2), torch.tensor([[1.0, 1.0]]))
    tensor([1.3863])
    """
    return labels.sum(-1) * listwise(scores, labels)


def attention_rank(scores: Tensor, labels: Tensor) -> Tensor:
    """Attention rank loss of DLCM (arXiv 1804.05936, section 4.4); SetRank is trained with it too.

    The cross-entropy of each item's share of attention: the labels' shares are uniform over the
    positives (graded ones weigh in proportion, in the paper as exp(label)), the scores' shares are
    their softmax. KAR's code cuts both at scores of 0, below which an item has no gradient; the
    softmax does not. 0 without a positive.

    Two equal scores, the second liked: each has share 1/2 of a wanted 0 and 1, 2 log 2 in all.

    >>> import torch
    >>> attention_rank(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    tensor([1.3863])
    """
    wanted = _shares(labels)
    log_shares = scores.log_softmax(-1)
    others = (1.0 - log_shares.exp()).clamp(min=1e-7).log()
    log_shares = log_shares.masked_fill(scores.isneginf(), 0.0)
    losses = -(wanted * log_shares + (1.0 - wanted) * others).sum(-1)
    return losses * (labels.sum(-1) > 0)


def pointwise(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of each item by itself, the mean over a list: MIR's (arXiv 2204.09370).

    A score of 0 is probability 1/2.

    >>> import torch
    >>> pointwise(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    tensor([0.6931])
    """
    real = ~scores.isneginf()
    liked = (labels > 0).to(scores.dtype)
    losses = functional.binary_cross_entropy_with_logits(
        scores.masked_fill(~real, 0.0), liked, reduction="none"
    )
    return (losses * real).sum(-1) / real.sum(-1).clamp(min=1)


def _shares(labels: Tensor) -> Tensor:
    """Labels divided by their sum; zeros without a positive."""
    return labels / labels.sum(-1, keepdim=True).clamp(min=1.0)
