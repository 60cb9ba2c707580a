"""Identifiability: do the responses tell users apart?

A response that could have been written for anyone carries nothing that a re-ranker could use, and
then no preference between responses means anything. This is cheap to know before any re-ranker is
trained: among all users' histories, how close to the response is the history of its own user?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rec.errors import RecError

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]
Counts = npt.NDArray[np.int64]

TIE = 1e-6
CHUNK = 1024


@dataclass(frozen=True)
class Identifiability:
    """The rank of the right user among `users` users, over all responses; rank 1 is the best."""

    mrr: float
    median_rank: float
    users: int
    responses: int
    chance_mrr: float
    chance_median_rank: float


def identifiability(responses: Floats, owners: Integers, histories: Floats) -> Identifiability:
    """Rank all users' histories by their cosine to each response; how high is the right user?

    Arguments
    ---------
    responses : [n, dim], the vectors of the responses
    owners : int [n], the row of `histories` that belongs to each response's user
    histories : [users, dim], the vectors of the users' histories

    Each set is centred on its own mean first, so that what all texts share does not count. Tied
    users (cosines within 1e-6) stand in random order: the rank is 1 + those strictly closer + half
    of the others that tie, the reciprocal rank is its mean over such orders. So vectors that are
    all the same give exactly chance: an MRR of H_users / users, a median rank of (users + 1) / 2.

    Raises RecError without responses and for fewer than two users.

    Two users at -1 and 1 on a line, three responses whose mean is 0 already. The first is nearest
    to its own user 0 (rank 1), the second belongs to user 1 but is nearest to user 0 (rank 2), the
    third finds its user 1 (rank 1): MRR (1 + 1/2 + 1) / 3; chance is (1 + 1/2) / 2.

    >>> histories = np.array([[-1.0], [1.0]])
    >>> found = identifiability(np.array([[-1.0], [-1.0], [2.0]]), np.array([0, 1, 1]), histories)
    >>> round(found.mrr, 4), found.median_rank, found.chance_mrr
    (0.8333, 1.0, 0.75)
    """
    closer, ties = _ranked(responses, owners, histories)
    return Identifiability(
        mrr=float(_reciprocal(closer, ties).mean()),
        median_rank=float(np.median(1 + closer + ties / 2)),
        users=len(histories),
        responses=len(responses),
        chance_mrr=chance_mrr(len(histories)),
        chance_median_rank=(len(histories) + 1) / 2,
    )


def reciprocal_ranks(
    responses: Floats, owners: Integers, histories: Floats
) -> npt.NDArray[np.float64]:
    """The reciprocal rank of each response's own user, [n]; `identifiability` is their mean.

    Arguments, ties and errors are those of `identifiability`.

    >>> histories = np.array([[-1.0], [1.0]])
    >>> reciprocal_ranks(np.array([[-1.0], [-1.0], [2.0]]), np.array([0, 1, 1]), histories)
    array([1. , 0.5, 1. ])
    """
    return _reciprocal(*_ranked(responses, owners, histories))


def chance_mrr(users: int) -> float:
    """The mean reciprocal rank of a random order of `users`: H_users / users."""
    return float((1.0 / np.arange(1, users + 1)).sum() / users)


def _ranked(responses: Floats, owners: Integers, histories: Floats) -> tuple[Counts, Counts]:
    """How many users are closer to each response than its own, and how many tie with that one."""
    users = len(histories)
    if len(responses) == 0 or users < 2:
        raise RecError(
            f"identifiability needs responses and two users; got {len(responses)} and {users}"
        )
    return _places(_directions(responses), owners, _directions(histories))


def _reciprocal(closer: Counts, ties: Counts) -> npt.NDArray[np.float64]:
    """Mean of 1 / rank over the orders of those that tie."""
    most = int((closer + ties).max()) + 1
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, most + 1))])
    found: npt.NDArray[np.float64] = (harmonic[closer + ties + 1] - harmonic[closer]) / (ties + 1)
    return found


def _places(
    own: npt.NDArray[np.float32], owners: Integers, others: npt.NDArray[np.float32]
) -> tuple[Counts, Counts]:
    """How many of `others` are closer to each response than its owner, and how many tie."""
    closer = np.empty(len(own), dtype=np.int64)
    ties = np.empty(len(own), dtype=np.int64)
    for start in range(0, len(own), CHUNK):
        part = slice(start, start + CHUNK)
        cosines = own[part] @ others.T
        right = np.take_along_axis(cosines, owners[part, None], axis=1)
        closer[part] = (cosines > right + TIE).sum(1)
        ties[part] = (np.abs(cosines - right) <= TIE).sum(1) - 1
    return closer, ties


def _directions(vectors: Floats) -> npt.NDArray[np.float32]:
    """Centre on the mean and scale to length 1; what is left of equal vectors is exactly 0."""
    values = vectors.astype(np.float64)
    centred = values - values.mean(0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    typical = np.sqrt((values**2).sum(1).mean())
    scaled = np.where(length > 1e-6 * typical, centred / np.maximum(length, 1e-30), 0.0)
    return scaled.astype(np.float32)


@dataclass(frozen=True)
class UserSums:
    """What the cosines between U users' responses follow from: of vectors of length 1."""

    sums: npt.NDArray[np.float64]  # [U, dim]
    counts: npt.NDArray[np.float64]  # [U]

    def cosines(
        self, weights: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean cosine within and between users, both [B], of users that count `weights` [B, U].

        A user that counts twice is no two different users. NaN where there is no such pair.
        """
        squares = (self.sums**2).sum(1)
        several = self.counts > 1
        own = (squares - self.counts)[several] / (self.counts * (self.counts - 1))[several]
        twice = weights**2
        pairs = (weights @ self.counts) ** 2 - twice @ self.counts**2
        total = ((weights @ self.sums) ** 2).sum(1) - twice @ squares
        with np.errstate(invalid="ignore", divide="ignore"):
            within = weights[:, several] @ own / weights[:, several].sum(1)
            return within, np.where(pairs > 0, total / pairs, np.nan)


def user_sums(responses: Floats, owners: Integers) -> UserSums:
    """Sums per user of the responses [n, dim] at length 1; `owners` int [n], users in its order."""
    values = responses.astype(np.float64)
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-30)
    _, codes = np.unique(owners, return_inverse=True)
    counts = np.bincount(codes).astype(np.float64)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, codes, values)
    return UserSums(sums, counts)


def response_cosines(responses: Floats, owners: Integers) -> tuple[float | None, float | None]:
    """Mean cosine of two responses of the same user, and of two different users.

    `responses` is [n, dim], `owners` int [n]. Within: the mean over users with several responses of
    the mean over their pairs. Between: the mean over all pairs of different users. None where there
    is no such pair.

    >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> response_cosines(vectors, np.array([0, 0, 1]))
    (0.0, 0.5)
    """
    found = user_sums(responses, owners)
    within, between = found.cosines(np.ones((1, len(found.counts))))
    ends = (float(within[0]), float(between[0]))
    first, second = (None if np.isnan(value) else value for value in ends)
    return first, second
