"""The links that texts alone tell: identifiability, and what the encoder keeps of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rec.identifiability import Floats, chance_mrr, reciprocal_ranks, user_sums
from rec.mediation.links import (
    COSINE,
    ENCODER,
    IDENTIFIABILITY,
    RANK,
    SHARE,
    Link,
    link,
)
from rec.mediation.resampling import estimate, mean_of

#: Splits, and how their users are called.
SPLITS = {"train": "train users", "valid": "validation users", "test": "test users"}


@dataclass(frozen=True)
class Texts:
    """Vectors of a policy's n responses and of all users' histories."""

    vectors: Floats  # [n, dim] of the responses alone
    told: Floats  # [n, dim] of the texts that hold them as reward models read it (`reward.text`)
    owners: npt.NDArray[np.int64]  # [n] the row of each response's user in `histories`
    histories: Floats  # [users, dim]
    splits: npt.NDArray[np.str_]  # [users]


def text_links(texts: Texts, resamples: int, seed: int) -> list[Link]:
    """Identifiability of the responses by split, then what is the users' in the vectors told.

    The rank of a response is that among all users' histories, whatever its user's split; of users
    with several responses the mean counts. Resamples draw users and their responses; the histories
    among which a response has its rank stay.
    """
    ranks = reciprocal_ranks(texts.vectors, texts.owners, texts.histories)
    users, place = np.unique(texts.owners, return_inverse=True)
    means = np.bincount(place, weights=ranks) / np.bincount(place)
    links = []
    for split, name in SPLITS.items():
        own = means[texts.splits[users] == split]
        found = estimate(mean_of(own), len(own), resamples, seed)
        label = f"Mean reciprocal rank of the right user, {name}"
        chance = chance_mrr(len(texts.histories))
        links.append(
            link(
                IDENTIFIABILITY,
                f"identifiability_{split}",
                label,
                split,
                found,
                unit=RANK,
                null=chance,
                chain=split == "train",
            )
        )
    for split, name in list(SPLITS.items())[:2]:
        links += _encoder_links(texts, split, name, resamples, seed)
    return links


def _encoder_links(texts: Texts, split: str, name: str, resamples: int, seed: int) -> list[Link]:
    """Cosines within users minus between, and the share of variance between users.

    Of vectors of length 1 the mean squared distance is 2 - 2 cosine, so that the share of the
    variance that lies between users is (within - between) / (1 - between): 0 where responses of a
    user are no more alike than those of two users. Of vectors that hold the history, too, what is
    left within users is all that the responses of a user differ by.
    """
    chosen = texts.splits[texts.owners] == split
    sums = user_sums(texts.told[chosen], texts.owners[chosen])
    users = len(sums.counts)

    def difference(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        within, between = sums.cosines(weights)
        return within - between

    def share(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        within, between = sums.cosines(weights)
        return np.where(between < 1 - 1e-9, (within - between) / (1 - between), np.nan)

    return [
        link(
            ENCODER,
            f"vectors_between_{split}",
            f"Share of the variance between users of the vectors told, {name}",
            split,
            estimate(share, users, resamples, seed),
            unit=SHARE,
        ),
        link(
            ENCODER,
            f"cosines_{split}",
            f"Cosine within a user minus between users, {name}",
            split,
            estimate(difference, users, resamples, seed),
            unit=COSINE,
        ),
    ]
