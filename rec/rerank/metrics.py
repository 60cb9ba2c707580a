"""Ranking metrics of many lists at once.

Every function takes scores and labels of shape [lists, items] (NumPy arrays or torch tensors), and
optionally a mask [lists, items] that is False at padding; it returns float64 [lists]. Equal scores
keep the order of the list. Labels are 0 (not relevant) or more. Raises RecError for a score that is
not a number, for shapes that differ and for a k below 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rec.errors import RecError

Floats = npt.NDArray[np.float64]


def ndcg(scores: Any, labels: Any, k: int, mask: Any = None) -> Floats:
    """NDCG@k with gain 2^label - 1 and discount 1 / log2(rank + 1); 0 without a positive.

    The liked item is ranked second, so its gain of 1 is divided by log2(3); ideally it is first.

    >>> ndcg([[0.1, 0.9, 0.5]], [[0, 0, 1]], k=5).round(4)
    array([0.6309])
    """
    ranked, real = _ranked(scores, labels, k, mask)
    ideal, _ = _ranked(real, real, k, mask)
    discount = 1.0 / np.log2(np.arange(2, ranked.shape[1] + 2))
    best = ((2.0**ideal - 1.0) * discount).sum(1)
    reached = ((2.0**ranked - 1.0) * discount).sum(1)
    values: Floats = np.divide(reached, best, out=np.zeros_like(best), where=best > 0)
    return values


def average_precision(scores: Any, labels: Any, k: int, mask: Any = None) -> Floats:
    """AP@k: precision at each hit within k, summed, divided by min(k, positives); 0 without any.

    Hits at ranks 1 and 3 of three positives, k = 3: (1/1 + 2/3) / 3.

    >>> average_precision([[4, 3, 2, 1]], [[1, 0, 1, 1]], k=3).round(4)
    array([0.5556])
    """
    ranked, real = _ranked(scores, labels, k, mask)
    positives = (real >= 1).sum(1).astype(np.float64)
    values: Floats = _precision_sum(ranked) / np.maximum(np.minimum(positives, k), 1.0)
    return values


def map_kar(scores: Any, labels: Any, k: int, mask: Any = None) -> Floats:
    """AP@k as KAR's code has it: divided by the hits within k, not by min(k, positives).

    It may fall as k grows and is only here to compare with KAR's published numbers.
    Hits at ranks 1 and 3, k = 3: (1/1 + 2/3) / 2.

    >>> map_kar([[4, 3, 2, 1]], [[1, 0, 1, 1]], k=3).round(4)
    array([0.8333])
    """
    ranked, _ = _ranked(scores, labels, k, mask)
    values: Floats = _precision_sum(ranked) / np.maximum((ranked >= 1).sum(1), 1.0)
    return values


def _precision_sum(ranked: Floats) -> Floats:
    hits = (ranked >= 1).astype(np.float64)
    ranks = np.arange(1, ranked.shape[1] + 1)
    total: Floats = (hits * hits.cumsum(1) / ranks).sum(1)
    return total


def _ranked(scores: Any, labels: Any, k: int, mask: Any) -> tuple[Floats, Floats]:
    """Labels of the first k by score, and all labels; padding counts as label 0 and stands last."""
    values, real = _array(scores), _array(labels)
    present = np.ones(real.shape, dtype=bool) if mask is None else _array(mask).astype(bool)
    if not values.shape == real.shape == present.shape or values.ndim != 2:
        raise RecError(
            f"metrics: scores {values.shape}, labels {real.shape} and mask {present.shape} "
            "must be of one shape [lists, items]"
        )
    if k < 1:
        raise RecError(f"metrics: k is {k}; it must be 1 or more")
    broken = np.isnan(values) & present
    if broken.any():
        raise RecError(f"metrics: the scores of list {int(broken.any(1).argmax())} hold NaN")
    if not (real[present] >= 0).all():
        raise RecError("metrics: labels must be 0 or more")
    real = np.where(present, real, 0.0)
    order = np.argsort(np.where(present, -values, 0.0), axis=1, kind="stable")
    if mask is not None:
        absent = np.take_along_axis(~present, order, axis=1)
        order = np.take_along_axis(order, np.argsort(absent, axis=1, kind="stable"), axis=1)
    return np.take_along_axis(real, order[:, :k], axis=1), real


def _array(values: Any) -> Floats:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
