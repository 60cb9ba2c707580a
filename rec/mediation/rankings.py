"""The last links: whether a policy serves re-rankers better than the one it is trained from.

First the same re-rankers, trained on texts of the policy before, then those trained anew.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from rec.comparison.cells import cells
from rec.comparison.intervals import ends, resampled_means
from rec.comparison.names import slug
from rec.mediation.links import POINTS, RETOLD, TEST, VALIDATION, Link, link
from rec.mediation.resampling import Estimate

MEASURE = "ndcg@5"
STEPS = {"valid": VALIDATION, "test": TEST}
USERS = {"valid": "validation users (the re-rankers stopped early on them)", "test": "test users"}


def ranking_links(
    users: pl.DataFrame, protocol: str, policies: tuple[str, str], resamples: int, seed: int
) -> list[Link]:
    """NDCG@5 with the policy after a round minus that with the policy before, paired by user.

    `users` is the table USER_METRICS, `policies` the one after and the one before. Means over
    backbones; intervals over users and seeds (`rec.comparison.intervals`).
    """
    return [
        link(
            step,
            f"ranking_{split}",
            f"NDCG@5 of fresh re-rankers, after the round minus before, {USERS[split]}",
            split,
            _difference(
                users.filter((pl.col("split") == split) & (pl.col("protocol") == protocol)),
                policies,
                (resamples, seed),
            ),
            unit=POINTS,
            chain=True,
        )
        for split, step in STEPS.items()
    ]


def retold_links(
    users: pl.DataFrame, policies: tuple[str, str], resamples: int, seed: int
) -> list[Link]:
    """NDCG@5 of the same re-rankers told the texts of the policy after minus before, by user.

    `users` has the columns user, split, variant (a policy), backbone, seed and ndcg@5, `policies`
    are the one after and the one before. Test users decide: on validation users the re-rankers
    stopped early, with the first response of the policy before.
    """
    return [
        link(
            RETOLD,
            f"retold_{split}",
            f"NDCG@5 of the same re-rankers, told the texts after minus before, {USERS[split]}",
            split,
            _difference(users.filter(pl.col("split") == split), policies, (resamples, seed)),
            unit=POINTS,
            chain=split == "test",
        )
        for split in ("test", "valid")
    ]


def _difference(users: pl.DataFrame, policies: tuple[str, str], draws: tuple[int, int]) -> Estimate:
    rows = users.filter(pl.col("variant").is_in(policies))
    if rows.is_empty():
        return Estimate(None, None, None, 0)
    table = cells(rows, MEASURE)
    after, before = (table.of(slug(policy)) for policy in policies)
    difference = (after - before)[:, :, None]
    low, high = ends(resampled_means(difference, *draws))[:, 0].tolist()
    return Estimate(float(np.mean(difference)), low, high, len(table.users))
