"""One re-ranker's own value, where the comparison has means over backbones and seeds."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rec.comparison.intervals import ends, resampled_means
from rec.comparison.result import Estimate
from rec.errors import RecError


def own_values(
    users: pl.DataFrame,
    run: tuple[str, str, int],
    protocols: Sequence[str],
    measure: str,
    resamples: int,
    seed: int,
) -> dict[str, Estimate]:
    """By protocol: a metric of the run (variant, backbone, seed), its mean over test users.

    `users` is a table USER_METRICS. The 95% interval is that of a bootstrap over users alone,
    `resamples` of them drawn by `seed`: it says nothing of how another seed would have turned out.
    Raises RecError where the table lacks the run on a protocol.
    """
    own = users.filter(
        pl.col("split") == "test",
        *(pl.col(k) == v for k, v in zip(("variant", "backbone", "seed"), run, strict=True)),
    )
    found = {}
    for protocol in protocols:
        values = own.filter(pl.col("protocol") == protocol).sort("user")[measure].to_numpy()
        if not len(values):
            raise RecError(f"metrics of users: no run {run} of protocol {protocol}")
        low, high = ends(resampled_means(values[None, :, None], resamples, seed))[:, 0]
        found[protocol] = Estimate(float(values.mean()), float(low), float(high))
    return found
