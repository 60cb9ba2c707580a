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
    users = len(histories)
    if len(responses) == 0 or users < 2:
        raise RecError(
            f"identifiability needs responses and two users; got {len(responses)} and {users}"
        )
    closer, ties = _places(_directions(responses), owners, _directions(histories))
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, users + 1))])
    reciprocal = (harmonic[closer + ties + 1] - harmonic[closer]) / (ties + 1)
    return Identifiability(
        mrr=float(reciprocal.mean()),
        median_rank=float(np.median(1 + closer + ties / 2)),
        users=users,
        responses=len(responses),
        chance_mrr=float(harmonic[users] / users),
        chance_median_rank=(users + 1) / 2,
    )


def _places(
    own: npt.NDArray[np.float32], owners: Integers, others: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
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


def response_cosines(responses: Floats, owners: Integers) -> tuple[float | None, float | None]:
    """Mean cosine of two responses of the same user, and of two different users.

    `responses` is [n, dim], `owners` int [n]. Within: the mean over users with several responses of
    the mean over their pairs. Between: the mean over all pairs of different users. None where there
    is no such pair.

    >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> response_cosines(vectors, np.array([0, 0, 1]))
    (0.0, 0.5)
    """
    values = responses.astype(np.float64)
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-30)
    _, codes = np.unique(owners, return_inverse=True)
    counts = np.bincount(codes).astype(np.float64)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, codes, values)
    squares = (sums**2).sum(1)
    several = counts > 1
    within = (squares - counts)[several] / (counts * (counts - 1))[several]
    pairs = len(values) ** 2 - (counts**2).sum()
    between = ((sums.sum(0) ** 2).sum() - squares.sum()) / pairs if pairs > 0 else None
    return (
        float(within.mean()) if several.any() else None,
        None if between is None else float(between),
    )
