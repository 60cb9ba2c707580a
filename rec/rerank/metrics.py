"""Ranking metrics of many lists at once.

Each metric has two forms of one computation. The functions named after the metric take scores and
labels of shape [lists, items] (NumPy arrays or torch tensors), and optionally a mask [lists, items]
that is False at padding. Equal scores keep the order of the list. Those of `RANKED` take the labels
[lists, items] in the order in which a re-ranker put them; padding holds label 0 and stands last,
where it changes no metric. All return float64 [lists].

Labels are 0 (not relevant) or more; NDCG and clicks are graded, elsewhere 1 or more is a hit.
Raises RecError for a score that is not a number, for a label below 0, for shapes that differ and
for a k below 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rec.errors import RecError

Floats = npt.NDArray[np.float64]

#: The k of the results: those of KAR's code.
SCOPES = (1, 3, 5, 7, 10)


def ndcg(scores: Any, labels: Any, k: int, mask: Any = None) -> Floats:
    """NDCG@k with gain 2^label - 1 and discount 1 / log2(rank + 1); 0 without a positive.

    The liked item is ranked second, so its gain of 1 is divided by log2(3); ideally it is first.

    >>> ndcg([[0.1, 0.9, 0.5]], [[0, 0, 1]], k=5).round(4)
    array([0.6309])
    """
    return ranked_ndcg(ranked(scores, labels, mask), k)


def average_precision(scores: Any, labels: Any, k: int, mask: Any = None) -> Floats:
    """AP@k: precision at each hit within k, summed, divided by min(k, positives); 0 without any.

    Hits at ranks 1 and 3 of three positives, k = 3: (1/1 + 2/3) / 3.

    >>> average_precision([[4, 3, 2, 1]], [[1, 0, 1, 1]], k=3).round(4)
    array([0.5556])
    """
    return ranked_average_precision(ranked(scores, labels, mask), k)


def map_kar(scores: Any, labels: Any, k: int, mask: Any = None) -> Floats:
    """AP@k as KAR's code has it: divided by the hits within k, not by min(k, positives).

    It may fall as k grows and is only here to compare with KAR's published numbers.
    Hits at ranks 1 and 3, k = 3: (1/1 + 2/3) / 2.

    >>> map_kar([[4, 3, 2, 1]], [[1, 0, 1, 1]], k=3).round(4)
    array([0.8333])
    """
    return ranked_map_kar(ranked(scores, labels, mask), k)


def hit_rate(scores: Any, labels: Any, k: int, mask: Any = None) -> Floats:
    """HitRate@k: 1 where one of the first k is a hit, else 0.

    The first hit stands third.

    >>> hit_rate([[4, 3, 2, 1]], [[0, 0, 1, 1]], k=2), hit_rate([[4, 3, 2, 1]], [[0, 0, 1, 1]], k=3)
    (array([0.]), array([1.]))
    """
    return ranked_hit_rate(ranked(scores, labels, mask), k)


def click(scores: Any, labels: Any, k: int, mask: Any = None) -> Floats:
    """CLICK@k of KAR's code: the sum of the labels of the first k, a count and no share.

    Of labels 0 and 1 it is how many of the first k were liked: k times the precision@k.

    >>> click([[4, 3, 2, 1]], [[1, 0, 1, 1]], k=3)
    array([2.])
    """
    return ranked_click(ranked(scores, labels, mask), k)


def ranked_ndcg(labels: Any, k: int) -> Floats:
    """`ndcg` of labels in the order of a re-ranker.

    >>> ranked_ndcg([[0, 1, 0], [1, 1, 0]], k=5).round(4)
    array([0.6309, 1.    ])
    """
    every, first = _first(labels, k)
    ideal = -np.sort(-every, axis=1)[:, :k]
    discount = 1.0 / np.log2(np.arange(2, first.shape[1] + 2))
    best = ((2.0**ideal - 1.0) * discount).sum(1)
    reached = ((2.0**first - 1.0) * discount).sum(1)
    values: Floats = np.divide(reached, best, out=np.zeros_like(best), where=best > 0)
    return values


def ranked_average_precision(labels: Any, k: int) -> Floats:
    """`average_precision` of labels in the order of a re-ranker.

    >>> ranked_average_precision([[1, 0, 1, 1]], k=3).round(4)
    array([0.5556])
    """
    every, first = _first(labels, k)
    positives = (every >= 1).sum(1).astype(np.float64)
    values: Floats = _precision_sum(first) / np.maximum(np.minimum(positives, k), 1.0)
    return values


def ranked_map_kar(labels: Any, k: int) -> Floats:
    """`map_kar` of labels in the order of a re-ranker.

    >>> ranked_map_kar([[1, 0, 1, 1]], k=3).round(4)
    array([0.8333])
    """
    _, first = _first(labels, k)
    values: Floats = _precision_sum(first) / np.maximum((first >= 1).sum(1), 1.0)
    return values


def ranked_hit_rate(labels: Any, k: int) -> Floats:
    """`hit_rate` of labels in the order of a re-ranker.

    >>> ranked_hit_rate([[0, 0, 1, 1], [0, 1, 0, 0]], k=2)
    array([0., 1.])
    """
    _, first = _first(labels, k)
    values: Floats = np.asarray((first >= 1).any(1), dtype=np.float64)
    return values


def ranked_click(labels: Any, k: int) -> Floats:
    """`click` of labels in the order of a re-ranker.

    >>> ranked_click([[1, 0, 1, 1]], k=3)
    array([2.])
    """
    _, first = _first(labels, k)
    values: Floats = first.sum(1)
    return values


#: The metrics of labels in ranked order, by the names that stand before "@k".
RANKED: Mapping[str, Callable[[Any, int], Floats]] = {
    "ndcg": ranked_ndcg,
    "map": ranked_average_precision,
    "map_kar": ranked_map_kar,
    "hit_rate": ranked_hit_rate,
    "click": ranked_click,
}
#: Every metric at every k, "ndcg@1" to "click@10".
NAMES = tuple(f"{name}@{k}" for name in RANKED for k in SCOPES)


def ranked_metrics(labels: Any) -> Floats:
    """Every metric of labels in the order of a re-ranker: float64 [lists, NAMES].

    >>> dict(zip(NAMES, ranked_metrics([[0, 1]])[0]))["hit_rate@3"]
    np.float64(1.0)
    """
    return np.stack([metric(labels, k) for metric in RANKED.values() for k in SCOPES], axis=1)


def ranked(scores: Any, labels: Any, mask: Any = None) -> Floats:
    """The labels by falling score, [lists, items]; padding counts as label 0 and stands last.

    >>> ranked([[0.1, 0.9, 0.5]], [[1, 2, 3]], mask=[[True, True, False]])
    array([[2., 1., 0.]])
    """
    values, real = _array(scores), _array(labels)
    present = np.ones(real.shape, dtype=bool) if mask is None else _array(mask).astype(bool)
    if not values.shape == real.shape == present.shape or values.ndim != 2:
        raise RecError(
            f"metrics: scores {values.shape}, labels {real.shape} and mask {present.shape} "
            "must be of one shape [lists, items]"
        )
    broken = np.isnan(values) & present
    if broken.any():
        raise RecError(f"metrics: the scores of list {int(broken.any(1).argmax())} hold NaN")
    real = np.where(present, real, 0.0)
    order = np.argsort(np.where(present, -values, 0.0), axis=1, kind="stable")
    if mask is not None:
        absent = np.take_along_axis(~present, order, axis=1)
        order = np.take_along_axis(order, np.argsort(absent, axis=1, kind="stable"), axis=1)
    return np.take_along_axis(real, order, axis=1)


def _first(labels: Any, k: int) -> tuple[Floats, Floats]:
    """The labels as floats, all of them and the first k."""
    every = _array(labels)
    if every.ndim != 2:
        raise RecError(f"metrics: labels {every.shape} must be of shape [lists, items]")
    if k < 1:
        raise RecError(f"metrics: k is {k}; it must be 1 or more")
    if not (every >= 0).all():
        raise RecError("metrics: labels must be 0 or more")
    return every, every[:, :k]


def _precision_sum(first: Floats) -> Floats:
    hits = (first >= 1).astype(np.float64)
    ranks = np.arange(1, first.shape[1] + 1)
    total: Floats = (hits * hits.cumsum(1) / ranks).sum(1)
    return total


def _array(values: Any) -> Floats:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
