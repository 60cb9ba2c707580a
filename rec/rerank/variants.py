"""The variants of the comparison: what a re-ranker is told besides ids, categories and ratings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from rec.config import BASELINES, ORDERS
from rec.errors import RecError
from rec.rerank.features import Features, Knowledge
from rec.rerank.ranking import Ranked
from rec.seeds import derive_seed
from rec.tables import NO_BACKBONE, NO_SAMPLE, NO_SEED, RUNS

NONE = "none"  # no text at all
NOISE = "noise"  # random vectors in place of the texts
ITEMS = "items"  # the items' texts
SWAPPED = "swapped"  # the items' texts, and the history of another user as text
HISTORY = "history"  # the items' texts, and each user's history as text
POPULARITY = "popularity"  # no re-ranker: by interactions of train users
SHOWN = "shown"  # no re-ranker: the order in which the lists were shown
RANDOM = "random"  # no re-ranker: any order


def is_policy(variant: str, policies: list[str]) -> bool:
    """Whether a variant uses the responses of a policy.

    Raises RecError for a variant that is neither a policy nor a trained baseline.
    """
    if variant in BASELINES:
        return False
    if variant in policies:
        return True
    names = ", ".join([*BASELINES, *policies])
    raise RecError(f"variant {variant!r} does not exist; use one of {names}")


def _by_popularity(features: Features, rows: Tensor, seed: int) -> Tensor:
    return features.rank[features.items[rows]]


def _as_shown(features: Features, rows: Tensor, seed: int) -> Tensor:
    items = features.items[rows]
    return torch.arange(items.shape[1], device=items.device).expand_as(items)


def _at_random(features: Features, rows: Tensor, seed: int) -> Tensor:
    shape = features.items[rows].shape
    generator = torch.Generator().manual_seed(derive_seed(seed, "random order"))
    return torch.rand(shape, generator=generator).to(rows.device)


#: The places of lists' items by each order, from features, lists and seed: [rows, n], any numbers.
_PLACES: dict[str, Callable[[Features, Tensor, int], Tensor]] = {
    SHOWN: _as_shown,
    POPULARITY: _by_popularity,
    RANDOM: _at_random,
}


def ordered(features: Features, order: str, rows: Tensor, seed: int) -> Ranked:
    """The lists `rows` in an order that no re-ranker has made; `seed` is that of a random one."""
    if order not in _PLACES:
        raise RecError(f"order {order!r} does not exist; use one of {', '.join(ORDERS)}")
    places = _PLACES[order](features, rows, seed).float()
    scores = (-places).masked_fill(features.items[rows] == 0, -torch.inf)
    return Ranked(rows.cpu().numpy(), np.full(len(rows), -1), scores, features.labels[rows])


def runs_table(
    features: Features,
    knowledge: Knowledge | None,
    ranked: Ranked,
    *,
    variant: str,
    protocol: str,
    backbone: str = NO_BACKBONE,
    seed: int = NO_SEED,
) -> pl.DataFrame:
    """RUNS rows of one re-ranker: each list's labels and places in the order of its scores.

    Equal scores keep the order of the list. Raises RecError for a score that is not finite.
    """
    scores, labels = ranked.scores.cpu().numpy(), ranked.labels.cpu().numpy().astype(np.int8)
    real = features.items.cpu().numpy()[ranked.rows] > 0
    if not np.isfinite(scores[real]).all():
        raise RecError(f"variant {variant!r}, seed {seed}: a score is not a number")
    order = np.argsort(-scores, axis=1, kind="stable")
    sorted_labels = np.take_along_axis(labels, order, axis=1)
    owner = features.list_user.cpu().numpy()[ranked.rows]
    samples = np.full(len(owner), NO_SAMPLE)
    if knowledge is not None and knowledge.samples is not None:
        samples = knowledge.samples.cpu().numpy()[ranked.responses]
    users = pl.Series(features.users, dtype=pl.String).gather(owner)
    table = pl.DataFrame(
        {
            "variant": pl.Series([variant]).new_from_index(0, len(owner)),
            "backbone": pl.Series([backbone]).new_from_index(0, len(owner)),
            "protocol": pl.Series([protocol]).new_from_index(0, len(owner)),
            "seed": np.full(len(owner), seed),
            "split": pl.Series(features.splits, dtype=pl.String).gather(owner),
            "user": users,
            "list": pl.Series(features.lists, dtype=pl.String).gather(ranked.rows),
            "sample": samples,
            "labels": _cells(sorted_labels),
            "places": _cells(order.astype(np.int16)),
        },
        schema_overrides=dict(RUNS),
    )
    lengths = pl.lit(pl.Series(real.sum(1)))
    table = table.with_columns(pl.col("labels", "places").list.head(lengths))
    return table.sort("variant", "protocol", "list", "sample")


def _cells(matrix: npt.NDArray[np.integer[Any]]) -> pl.Series:
    """A list per row."""
    return pl.Series(matrix).arr.to_list()
