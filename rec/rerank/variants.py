"""The variants of the comparison: what a re-ranker is told besides ids, categories and ratings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import torch

from rec.config import BASELINES
from rec.errors import RecError
from rec.rerank.features import Features
from rec.rerank.metrics import average_precision, ndcg
from rec.rerank.training import Judged
from rec.tables import RUNS

NONE = "none"  # no text at all
ITEMS = "items"  # the items' texts
HISTORY = "history"  # the items' texts, and each user's history as text
POPULARITY = "popularity"  # no re-ranker: by interactions of train users
SHOWN = "shown"  # no re-ranker: the order in which the lists were shown


def policy_of(variant: str, policies: list[str]) -> str | None:
    """The policy whose responses a variant uses; None for a variant without responses.

    Raises RecError for a variant that does not exist.
    """
    if variant in BASELINES:
        return None
    if variant in policies:
        return variant
    names = ", ".join([*BASELINES, *policies])
    raise RecError(f"variant {variant!r} does not exist; use one of {names}")


def by_popularity(features: Features, rows: torch.Tensor) -> Judged:
    """The metrics of lists ordered by popularity."""
    return _ordered(features, rows, features.rank[features.items[rows]])


def as_shown(features: Features, rows: torch.Tensor) -> Judged:
    """The metrics of lists in the order that they have in their table."""
    items = features.items[rows]
    places = torch.arange(items.shape[1], device=items.device)
    return _ordered(features, rows, places.expand_as(items))


def _ordered(features: Features, rows: torch.Tensor, places: torch.Tensor) -> Judged:
    """The metrics of lists whose items stand at `places` [rows, n]."""
    labels, mask = features.labels[rows], features.items[rows] > 0
    none = np.full(len(rows), -1)
    scores = (ndcg(-places, labels, 5, mask), average_precision(-places, labels, 5, mask))
    return Judged(rows.cpu().numpy(), none, *scores, np.full(len(rows), np.nan))


#: The variants that are an order of the lists.
ORDERS: dict[str, Callable[[Features, torch.Tensor], Judged]] = {
    SHOWN: as_shown,
    POPULARITY: by_popularity,
}


def runs_table(features: Features, judged: Judged, variant: str, seed: int) -> pl.DataFrame:
    """RUNS rows of one seed: per list, the mean over the responses of its user."""
    rows, place = np.unique(judged.rows, return_inverse=True)
    count = np.bincount(place)
    owner = features.list_user.cpu().numpy()[rows]
    return pl.DataFrame(
        {
            "variant": [variant] * len(rows),
            "seed": [seed] * len(rows),
            "list": [features.lists[row] for row in rows],
            "user": [features.users[user] for user in owner],
            "ndcg@5": np.bincount(place, weights=judged.ndcg) / count,
            "map@5": np.bincount(place, weights=judged.average_precision) / count,
        },
        schema=dict(RUNS),
    )
