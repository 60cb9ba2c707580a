"""What is told of preference pairs: their margins, their lengths, and why there are no more."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from rec.distributions import rounded

#: Why a pair could not be: no response fits in length, a margin that is not above the minimum, more
#: pairs than the maximum.
OF_PAIRS = ("length", "margin", "maximum")
#: Why a user has none: fewer than two responses, two that do not repeat themselves, two different
#: ones; or no pair could be.
OF_USERS = ("one_response", "degenerate", "identical", *OF_PAIRS)
QUANTILES = {"p10": 0.1, "p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9}
#: The names of `pairs.measure` in texts, and the unit of a difference.
MEASURES = {
    "ndcg@5": "NDCG@5",
    "map@5": "MAP@5",
    "log_likelihood": "log-likelihood of the labels, nats",
}


@dataclass
class Tally:
    """What a table of pairs does not show of how it was made."""

    users: int  # with scored responses
    empty: int = 0  # responses without text in a slot, left out
    degenerate: int = 0  # other responses that repeat themselves
    users_dropped: Counter[str] = field(default_factory=Counter)  # without a pair, by reason
    pairs_dropped: Counter[str] = field(default_factory=Counter)  # by reason
    ties: int = 0  # pairs with a side whose score another response has: log-likelihood decided
    spared: int = 0  # pairs whose worst response was cut off and another was taken


def pair_metrics(pairs: pl.DataFrame, tally: Tally) -> dict[str, Any]:
    """Figures of a table PAIRS; those that need pairs are None without any.

    `dropped` counts users without a pair by what became of the pair of their best response, so that
    it adds up with `users_with_pair` to `users`; `dropped_pairs` counts wanted pairs. Length is in
    tokens, chosen minus rejected.
    """
    return {
        "pairs": pairs.height,
        "users": tally.users,
        "users_with_pair": pairs["user"].n_unique(),
        "margin": _spread(pairs["margin"]),
        "length_difference": _lengths(pairs),
        "ties": tally.ties,
        "cut_spared": tally.spared,
        "dropped": {reason: tally.users_dropped[reason] for reason in OF_USERS},
        "dropped_pairs": {reason: tally.pairs_dropped[reason] for reason in OF_PAIRS},
        "empty_responses": tally.empty,
        "degenerate_responses": tally.degenerate,
    }


def _spread(values: pl.Series) -> dict[str, float | None]:
    quantiles = {name: values.quantile(at, "linear") for name, at in QUANTILES.items()}
    return _each_rounded({"mean": values.mean(), **quantiles})


def _lengths(pairs: pl.DataFrame) -> dict[str, float | None]:
    """Whether chosen responses are longer, and longer the larger the margin.

    A share of pairs far from that of the shorter ones is a length that DPO can learn in place of
    taste. The correlation is None where margins or lengths do not vary.
    """
    sides = ("chosen_ids", "rejected_ids")
    chosen, rejected = (pl.col(side).list.len().cast(pl.Int64) for side in sides)
    found = pairs.select(
        mean=(chosen - rejected).mean(),
        mean_absolute=(chosen - rejected).abs().mean(),
        chosen_longer=(chosen > rejected).mean(),
        chosen_shorter=(chosen < rejected).mean(),
        correlation_with_margin=pl.corr(chosen - rejected, "margin").fill_nan(None),
    )
    return _each_rounded(found.row(0, named=True))


def _each_rounded(values: dict[str, Any]) -> dict[str, float | None]:
    return {name: None if value is None else rounded(value) for name, value in values.items()}
