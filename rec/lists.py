"""Lists to re-rank: a user's later interactions with negatives, in an initial ranker's order.

KAR's protocol (arXiv 2306.10933, re-ranking): consecutive later interactions open a list, and items
that the user never interacted with fill it. Negatives are drawn by popularity**exponent or
uniformly (KAR): each way is a protocol, and the same lists are filled by each. Each draw is a hash
of the seed, the user, the list and the draw's number, whatever the other protocols.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rec.config import Prepare
from rec.hashing import GOLDEN, Keys, keyed, keys, mixed, uniform
from rec.negatives import Catalogue, Seen, build_tree, draw_negatives

Integers = npt.NDArray[np.int64]
Counts = Counter[str]


@dataclass(frozen=True)
class Lists:
    """L lists of n items, sorted by user and position."""

    users: Integers  # [L] place among the users
    block: Integers  # [L] number of the user's block of later interactions
    position: Integers  # [L] of the first own interaction in the user's time order
    items: Integers  # [L, n]
    labels: npt.NDArray[np.int8]  # [L, n]


@dataclass(frozen=True)
class Ranker:
    """The initial ranker's order of the items, and how likely each is drawn as a negative."""

    catalogues: dict[str, Catalogue]  # by protocol
    rank: Integers  # [items] the initial ranker's place of each
    ranked: Integers  # [items] the items in the initial ranker's order


def build_ranker(items: pl.Series, popularity: Integers, prepare: Prepare, seed: int) -> Ranker:
    """The ranker of items by their interactions of train users, with all of `prepare.negatives`.

    Every item counts one more, so that each can be drawn. The initial ranker puts items of one
    popularity in the order of a hash.
    """
    counts = popularity.astype(np.float64) + 1
    hashes = keys(keyed(f"{seed}:item:", items))
    ties = uniform(keyed(f"{seed}:rank:", items))
    ranked = np.lexsort((np.arange(len(items)), ties, -counts))
    rank = np.empty(len(items), dtype=np.int64)
    rank[ranked] = np.arange(len(items))
    catalogues = {}
    for protocol in prepare.negatives:
        weights = counts ** (prepare.popularity_exponent if protocol == "popularity" else 0.0)
        catalogues[protocol] = Catalogue(hashes, weights, build_tree(hashes, weights))
    return Ranker(catalogues, rank, ranked)


def list_states(users: pl.Series, lists: Lists, seed: int) -> Keys:
    """The random state of each list, from the seed, its user's id and its block alone."""
    of_user = keys(keyed(f"{seed}:negatives:", users))
    step = (lists.block.astype(np.uint64) + np.uint64(1)) * GOLDEN
    return mixed(of_user[lists.users] ^ mixed(step))


def own_blocks(
    interactions: pl.DataFrame, seen: Seen, prepare: Prepare, positive_rating: float
) -> tuple[Lists, Counts]:
    """Cut the users' later interactions into blocks; count those that make no list, by reason.

    `interactions` are those of `rec.interactions.order_interactions`. The lists hold the block's
    own items alone, in time order.
    """
    size = prepare.list_interactions
    user = interactions["user"].to_numpy().astype(np.int64)
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    counts = np.diff(np.append(starts, len(user)))
    profile = np.add.reduceat(interactions["profile"].to_numpy().astype(np.int64), starts)
    later = counts - profile
    whole = later // size
    owner = np.repeat(np.arange(len(starts)), whole)
    block = np.arange(len(owner)) - np.repeat(np.cumsum(whole) - whole, whole)
    position = profile[owner] + block * size
    cells = (starts[owner] + position)[:, None] + np.arange(size)
    labels = (interactions["rating"].to_numpy()[cells] >= positive_rating).astype(np.int8)
    items = interactions["item"].to_numpy().astype(np.int64)[cells]
    found = Lists(user[starts][owner], block, position, items, labels)
    useful = labels.any(axis=1)
    free = seen.items - np.bincount(
        seen.pairs // seen.items, minlength=int(user.max(initial=-1)) + 1
    )
    fillable = useful & (free[found.users] >= prepare.list_size - size)
    number = np.cumsum(fillable) - np.repeat(_before(fillable, whole), whole) - 1
    most = prepare.lists_per_user
    kept = fillable if most is None else fillable & (number < most)
    dropped = Counter(
        {
            "short last block": int((later % size > 0).sum()),
            "without a positive": int((~useful).sum()),
            "too few items left as negatives": int((useful & ~fillable).sum()),
            "beyond prepare.lists_per_user": int((fillable & ~kept).sum()),
        }
    )
    return chosen_lists(found, kept), dropped


def _before(chosen: npt.NDArray[np.bool_], groups: Integers) -> Integers:
    """How many are chosen before each group of consecutive ones."""
    total = np.concatenate([[0], np.cumsum(chosen)])
    before: Integers = total[np.cumsum(groups) - groups]
    return before


def chosen_lists(lists: Lists, chosen: npt.NDArray[np.bool_] | slice) -> Lists:
    """Some of the lists."""
    return Lists(
        lists.users[chosen],
        lists.block[chosen],
        lists.position[chosen],
        lists.items[chosen],
        lists.labels[chosen],
    )


def fill_lists(
    own: Lists, states: Keys, ranker: Ranker, protocol: str, seen: Seen, list_size: int
) -> Lists:
    """Fill blocks with negatives of a protocol, in the order of the initial ranker."""
    count = list_size - own.items.shape[1]
    negatives = draw_negatives(states, own.users, count, ranker.catalogues[protocol], seen)
    liked = np.concatenate([own.labels, np.zeros(negatives.shape, dtype=np.int8)], axis=1)
    cells = ranker.rank[np.concatenate([own.items, negatives], axis=1)] << 1 | liked
    cells.sort(axis=1)
    items, labels = ranker.ranked[cells >> 1], (cells & 1).astype(np.int8)
    return Lists(own.users, own.block, own.position, items, labels)
