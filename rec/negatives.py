"""Negatives: items that a user never interacted with, drawn by popularity or uniformly.

A draw walks down a binary tree over the items' hashes and at each branch goes left with the
probability that the weights below it have, by a random number of its own. Where the weights of a
few items change, because users came or went, only draws that reach a changed branch within the
change turn out otherwise; with uniform weights and the same items none does. A table of cumulative
weights would shift almost every draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rec.hashing import Keys, mixed, nth
from rec.machine import cores

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

#: Draws per list: few for all lists, more for those left short, then the exact way.
DRAWS = (6, 8, 12, 16, 32, 64, 128)
EXTRA_LEVELS = 3  # of the tree, beyond one leaf per item on average
CELLS = 1 << 17  # cells of lists by draws at once: their arrays stay in the processor's cache
RACED = 1 << 22  # cells of lists by items in memory at once
TABLE = 1 << 27  # cells of users by items up to which what was seen is looked up in a table


@dataclass(frozen=True)
class Tree:
    """The tree of a catalogue of n items; a walk ends in a leaf, and in the leaf at an item."""

    order: Integers  # [n] items by their hash
    cumulative: Floats  # [n + 1] weights before each place of `order`
    leaf: Integers  # [2**levels + 1] where each leaf begins in `order`
    left: list[Keys]  # per level: chance of going left times 2**32, by node

    @property
    def levels(self) -> int:
        """Branches from the root to a leaf."""
        return len(self.left)


def build_tree(hashes: Keys, weights: Floats) -> Tree:
    """The tree over items with these hashes and positive weights, both [n]."""
    order = np.lexsort((np.arange(len(hashes)), hashes))
    levels = max(1, int(np.ceil(np.log2(max(2, len(hashes)))))) + EXTRA_LEVELS
    cells = (hashes[order] >> np.uint64(64 - levels)).astype(np.int64)
    below = np.bincount(cells, weights=weights[order], minlength=2**levels)
    left: list[Keys] = []
    while len(below) > 1:
        both = below[::2] + below[1::2]
        chance = below[::2] / np.where(both > 0, both, 1.0)
        left.append(np.floor(chance * 2.0**32).astype(np.uint64))
        below = both
    return Tree(
        order=order,
        cumulative=np.concatenate([[0.0], np.cumsum(weights[order])]),
        leaf=np.searchsorted(cells, np.arange(2**levels + 1)),
        left=left[::-1],
    )


def walk(tree: Tree, states: Keys) -> Integers:
    """The item that each draw [d] ends at, by its random state."""
    node = np.zeros(len(states), dtype=np.int64)
    numbers = states
    for level, left in enumerate(tree.left):
        if level % 2 == 0:
            numbers = nth(states, level // 2)
        half = numbers >> np.uint64(32) if level % 2 == 0 else numbers & np.uint64(0xFFFFFFFF)
        right = half >= left.take(node)
        node += node
        node += right
    first, end = tree.leaf[node], tree.leaf[node + 1]
    place = first
    shared = (end - first > 1).nonzero()[0]
    if len(shared):
        place = first.copy()
        low, high = tree.cumulative[first[shared]], tree.cumulative[end[shared]]
        inside = (nth(states[shared], tree.levels) >> np.uint64(12)) * 2.0**-52
        found = np.searchsorted(tree.cumulative, low + inside * (high - low), side="right") - 1
        place[shared] = found.clip(first[shared], end[shared] - 1)
    chosen: Integers = tree.order[place]
    return chosen


@dataclass(frozen=True)
class Catalogue:
    """The items as negatives: how likely each is drawn, and the hash that places it."""

    hashes: Keys  # [items]
    weights: Floats  # [items]
    tree: Tree


@dataclass(frozen=True)
class Seen:
    """The items that users interacted with, as sorted numbers user * items + item."""

    pairs: Integers
    items: int

    @cached_property
    def _table(self) -> Booleans | None:
        """Whether a number is among the pairs, by number; the last cell is for all beyond."""
        cells = int(self.pairs[-1]) + 2 if len(self.pairs) else 1
        if cells > TABLE:
            return None
        table = np.zeros(cells, dtype=np.bool_)
        table[self.pairs] = True
        return table

    def holds(self, users: Integers, items: Integers) -> Booleans:
        """Whether each user, broadcast against the items, has seen each item."""
        wanted = users * self.items + items
        if self._table is not None:
            return self._table.take(wanted, mode="clip")
        place = np.searchsorted(self.pairs, wanted.ravel()).clip(max=len(self.pairs) - 1)
        held: Booleans = (self.pairs[place] == wanted.ravel()).reshape(wanted.shape)
        return held


def draw_negatives(
    states: Keys, users: Integers, count: int, catalogue: Catalogue, seen: Seen
) -> Integers:
    """`count` distinct items for each list, none of which its user has seen: [lists, count].

    `states` and `users` are [lists]. A list's items are its first valid draws, so each comes with a
    probability in proportion to its weight among those that are left. A list still short after the
    last draw is filled from all items at once, by the equivalent race of exponential clocks
    (Efraimidis and Spirakis, 2006). Every user must have `count` unseen items.
    """
    result = np.full((len(states), count), -1, dtype=np.int64)
    lists = np.arange(len(states))

    def draw(some: Integers) -> None:
        result[some] = _drawn(states[some], users[some], count, catalogue.tree, seen).T

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(draw, _slices(lists, CELLS // DRAWS[0] if DRAWS else CELLS)))
    for some in _slices(lists[result[:, -1] < 0], RACED // len(catalogue.weights)):
        result[some] = _raced(states[some], users[some], count, catalogue, seen)
    return result


def _slices(rows: Integers, size: int) -> Iterator[Integers]:
    for start in range(0, len(rows), max(1, size)):
        yield rows[start : start + max(1, size)]


def _drawn(states: Keys, users: Integers, count: int, tree: Tree, seen: Seen) -> Integers:
    """The first `count` valid draws of each list, -1 where there are fewer: [count, lists]."""
    result = np.full((count, len(states)), -1, dtype=np.int64)
    short = np.arange(len(states))
    for first, end in pairwise((0, *DRAWS)):
        numbers = np.stack([nth(states[short], draw) for draw in range(first, end)])
        items = walk(tree, numbers.ravel()).reshape(numbers.shape)
        unseen = ~seen.holds(users[short], items)
        chosen = result[:, short]
        filled = (chosen >= 0).sum(axis=0)
        for item, valid in zip(items, unseen, strict=True):
            valid &= (filled < count) & (chosen != item).all(axis=0)
            taken = valid.nonzero()[0]
            chosen[filled[taken], taken] = item[taken]
            filled[taken] += 1
        result[:, short] = chosen
        short = short[filled < count]
    return result


def _raced(states: Keys, users: Integers, count: int, catalogue: Catalogue, seen: Seen) -> Integers:
    items = np.arange(len(catalogue.weights))
    numbers = mixed(mixed(states)[:, None] ^ catalogue.hashes[None, :])
    inside = ((numbers >> np.uint64(12)) + 0.5) * 2.0**-52
    clocks = -np.log(inside) / catalogue.weights
    clocks[seen.holds(users[:, None], items[None, :])] = np.inf
    order: Integers = np.argsort(clocks, axis=1, kind="stable")[:, :count]
    return order
