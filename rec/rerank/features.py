"""What a re-ranker sees, as tensors on the device, built once.

Index 0 of items is padding; items, users and lists are numbered in the order of their tables. The
columns of a list are the positions that its items had at first: by popularity, or as shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from rec.errors import RecError
from rec.machine import device

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """Lists and histories. L lists of at most n items, histories of at most H interactions."""

    lists: list[str]
    users: list[str]
    splits: list[str]  # one per user
    list_user: Tensor  # [L] index into users
    items: Tensor  # [L, n] item numbers, 0 at padding
    labels: Tensor  # [L, n] float
    history: Tensor  # [L, H] item numbers, oldest first, padded on the left with 0
    ratings: Tensor  # [L, H] ratings in -1 to 1
    catalogue: list[str]  # item of number i at place i - 1
    categories: Tensor  # [items + 1, categories], each row sums to 1 or is 0
    rank: Tensor  # [items + 1] place of each item by popularity among train users; -1 at padding

    @cached_property
    def user_numbers(self) -> dict[str, int]:
        """The number of each user."""
        return {user: number for number, user in enumerate(self.users)}

    @cached_property
    def positive(self) -> Tensor:
        """Bool [L]: lists that hold a positive; the others can neither teach nor tell anything."""
        return self.labels.sum(1) > 0

    def rows(self, users: list[str]) -> Tensor:
        """The lists of some users, as indices in table order, on the device."""
        chosen = torch.zeros(len(self.users), dtype=torch.bool)
        chosen[[self.user_numbers[user] for user in users]] = True
        return chosen.to(self.list_user.device)[self.list_user].nonzero().squeeze(1)

    def users_of(self, split: str) -> list[str]:
        """The users of a split. Raises RecError where there is none."""
        users = [u for u, s in zip(self.users, self.splits, strict=True) if s == split]
        if not users:
            raise RecError(f"no user of split {split!r} has lists; change the shares of `prepare`")
        return users


@dataclass(frozen=True)
class Knowledge:
    """Text vectors: of items and, where given, of R responses of users, each with S texts.

    The texts of a response are the response itself (or, as one text, with the history that it was
    written about) and, where the re-ranker is told both, the history.
    """

    items: Tensor  # float16 [items + 1, dim], zeros at padding
    users: Tensor | None = None  # float16 [R, S, dim], sorted by user, sample
    first: Tensor | None = None  # [users] the row of a user's first response
    count: Tensor | None = None  # [users]
    samples: Tensor | None = None  # [R] the sample number of each row

    @property
    def dimension(self) -> int:
        """Width of a text vector."""
        return int(self.items.shape[1])

    @property
    def texts(self) -> int:
        """How many texts about a user a response comes with: S, or 0."""
        return 0 if self.users is None else int(self.users.shape[1])

    def first_responses(self) -> Knowledge:
        """The same, with each user's first response alone (the one of the lowest sample number)."""
        return self if self.count is None else replace(self, count=torch.ones_like(self.count))


@dataclass(frozen=True)
class Batch:
    """B lists as a re-ranker takes them; catalogue tables come along by reference."""

    items: Tensor  # [B, n]
    labels: Tensor  # [B, n]
    history: Tensor  # [B, H]
    ratings: Tensor  # [B, H]
    categories: Tensor  # [items + 1, categories]
    item_vectors: Tensor | None  # [items + 1, dim]
    user_vectors: Tensor | None  # [B, S, dim]

    @property
    def mask(self) -> Tensor:
        """Bool [B, n]: real items."""
        return self.items > 0


def batch(
    features: Features, knowledge: Knowledge | None, rows: Tensor, responses: Tensor | None
) -> Batch:
    """Lists `rows` [B], the user of each described by response row `responses` [B] (or by none)."""
    vectors = None
    if knowledge is not None and knowledge.users is not None:
        assert responses is not None
        vectors = knowledge.users.index_select(0, responses)
    return Batch(
        items=features.items[rows],
        labels=features.labels[rows],
        history=features.history[rows],
        ratings=features.ratings[rows],
        categories=features.categories,
        item_vectors=None if knowledge is None else knowledge.items,
        user_vectors=vectors,
    )


def build_features(
    items: pl.DataFrame,
    interactions: pl.DataFrame,
    lists: pl.DataFrame,
    history: int,
    rating_range: tuple[float, float],
) -> Features:
    """Tensors of the tables ITEMS, INTERACTIONS and LISTS (`rec.tables`).

    A list at position p sees the user's last `history` interactions of positions below p, nothing
    later. Ratings are scaled from `rating_range` to -1 to 1. Raises RecError for an item or a user
    that the other tables do not know, for an empty list and for labels that do not match the items.
    """
    names = items["item"]
    users = lists.select("user", "split").unique(maintain_order=True)
    if users["user"].n_unique() != users.height:
        raise RecError("lists: a user has lists in two splits")
    owner = _numbers(lists["user"], users["user"], "lists: user")
    cells, labels = _cells(lists, names)
    end_at = lists["position"].to_numpy().astype(np.int64)
    past, ratings = _histories(interactions, names, users["user"], owner, end_at, history)
    low, high = rating_range
    scaled = 2 * (ratings - low) / (high - low) - 1 if high > low else np.ones_like(ratings)
    scaled[past == 0] = 0
    return Features(
        lists=lists["list"].to_list(),
        users=users["user"].to_list(),
        splits=users["split"].to_list(),
        list_user=_tensor(owner),
        items=_tensor(cells),
        labels=_tensor(labels),
        history=_tensor(past),
        ratings=_tensor(scaled.astype(np.float32)),
        catalogue=names.to_list(),
        categories=_tensor(_categories(items)),
        rank=_tensor(np.concatenate([[-1], items["rank"].to_numpy()])),
    )


def _tensor(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(values).to(device())


def _numbers(values: pl.Series, names: pl.Series, what: str) -> Integers:
    """The place of each value among `names`; RecError for a value that is not there."""
    known = pl.DataFrame({"name": names}).with_row_index("number")
    found = pl.DataFrame({"name": values}).join(known, on="name", how="left", maintain_order="left")
    if found.height != len(values):
        raise RecError(f"{what} numbers are ambiguous: a name stands in its table twice")
    missing = found.filter(pl.col("number").is_null())
    if missing.height:
        raise RecError(f"{what} {missing['name'][0]!r} is unknown to the table that lists them")
    return found["number"].to_numpy().astype(np.int64)


def _cells(lists: pl.DataFrame, names: pl.Series) -> tuple[Integers, npt.NDArray[np.float32]]:
    lengths = lists["items"].list.len().to_numpy()
    if lists.height == 0 or lengths.min() == 0:
        raise RecError("lists: there are no lists, or one of them has no items")
    if (lengths != lists["labels"].list.len().to_numpy()).any():
        raise RecError("lists: a list has more or fewer labels than items")
    mask = np.arange(lengths.max()) < lengths[:, None]
    cells = np.zeros(mask.shape, dtype=np.int64)
    labels = np.zeros(mask.shape, dtype=np.float32)
    cells[mask] = _numbers(lists["items"].explode(), names, "lists: item") + 1
    labels[mask] = lists["labels"].explode().to_numpy()
    return cells, labels


def _histories(
    interactions: pl.DataFrame,
    names: pl.Series,
    users: pl.Series,
    owner: Integers,
    end_at: Integers,
    history: int,
) -> tuple[Integers, npt.NDArray[np.float64]]:
    """Items and ratings of the last interactions of `owner` before position `end_at`, [L, H]."""
    rows = interactions.filter(pl.col("user").is_in(users.implode()))
    user = _numbers(rows["user"], users, "interactions: user")
    position = rows["position"].to_numpy().astype(np.int64)
    stride = int(max(position.max(initial=0), end_at.max())) + 1
    keys = user * stride + position
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    end = np.searchsorted(keys, owner * stride + end_at)
    start = np.searchsorted(keys, owner * stride)
    place = end[:, None] - history + np.arange(history)
    present = place >= start[:, None]
    place = order[np.where(present, place, 0)] if len(order) else place * 0
    items = _numbers(rows["item"], names, "interactions: item") + 1
    ratings = rows["rating"].to_numpy().astype(np.float64)
    if len(order) == 0:
        return np.zeros(place.shape, dtype=np.int64), np.zeros(place.shape)
    return np.where(present, items[place], 0), np.where(present, ratings[place], 0.0)


def _categories(items: pl.DataFrame) -> npt.NDArray[np.float32]:
    """Multi-hot categories divided by their number, [items + 1, categories]; row 0 is padding."""
    pairs = items.select(pl.int_range(1, pl.len() + 1).alias("item"), "categories")
    pairs = pairs.explode("categories").drop_nulls().unique(maintain_order=True)
    names = sorted(pairs["categories"].unique().to_list())
    table = np.zeros((items.height + 1, max(1, len(names))), dtype=np.float32)
    columns = _numbers(pairs["categories"], pl.Series(names, dtype=pl.String), "items: category")
    table[pairs["item"].to_numpy(), columns] = 1.0
    table /= np.maximum(table.sum(1, keepdims=True), 1.0)
    return table


def item_knowledge(features: Features, vectors: pl.DataFrame) -> Knowledge:
    """Knowledge of items only. `vectors` has one row per item (key: the item).

    Raises RecError where an item has no vector or several.
    """
    if vectors["key"].n_unique() != vectors.height:
        raise RecError("item vectors: an item has several vectors")
    catalogue = pl.Series(features.catalogue, dtype=pl.String)
    places = _numbers(catalogue, vectors["key"], "item vectors: item")
    matrix = vectors["vector"].to_numpy()[places]
    padded = np.concatenate([np.zeros((1, matrix.shape[1]), dtype=matrix.dtype), matrix])
    return Knowledge(items=_tensor(padded))


def user_knowledge(
    features: Features,
    items: Knowledge,
    vectors: pl.DataFrame,
    users: pl.DataFrame,
    histories: pl.DataFrame | None = None,
) -> Knowledge:
    """Knowledge of items and users. `vectors`: key, sample, vector; `users`: key, user.

    With `histories` (key, sample, vector; one per user) each response comes with its user's history
    as a second text. Users without lists are left out. Raises RecError where a user with lists has
    no vector.
    """
    table = vectors.join(users.select("key", "user"), on="key", how="inner", maintain_order="left")
    table = table.filter(pl.col("user").is_in(features.users))
    owner = _numbers(table["user"], pl.Series(features.users, dtype=pl.String), "vectors: user")
    samples = table["sample"].to_numpy().astype(np.int64)
    order = np.lexsort((samples, owner))
    count = np.bincount(owner, minlength=len(features.users))
    if not count.all():
        user = features.users[int(count.argmin())]
        raise RecError(f"vectors: user {user!r} has lists but no text; run the sampling stage")
    texts = [table["vector"].to_numpy()[order]]
    if histories is not None:
        place = _numbers(table["key"], histories["key"], "history vectors: key")
        texts.append(histories["vector"].to_numpy()[place][order])
    return replace(
        items,
        users=_tensor(np.stack(texts, axis=1)),
        first=_tensor(np.cumsum(count) - count),
        count=_tensor(count),
        samples=_tensor(samples[order]),
    )


def of_other_users(knowledge: Knowledge, seed: int) -> Knowledge:
    """Every user with the text of another one, drawn anew for each seed: a control.

    What is left of a text's worth with another's is not what it says of its user. For knowledge
    with one text per user; with a single user there is no other.
    """
    assert knowledge.users is not None
    circle = np.random.default_rng(seed).permutation(len(knowledge.users))
    other = np.empty_like(circle)
    other[circle] = np.roll(circle, 1)
    return replace(knowledge, users=knowledge.users[_tensor(other)])


def random_knowledge(features: Features, dimension: int, seed: int) -> Knowledge:
    """Random unit vectors in place of all texts, the control of the comparison.

    Every item and every user has one, the same in each list.
    """
    rng = np.random.default_rng(seed)

    def directions(count: int) -> npt.NDArray[np.float16]:
        drawn = rng.normal(size=(count, dimension))
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        return drawn.astype(np.float16)

    items = directions(len(features.catalogue) + 1)
    items[0] = 0
    users = len(features.users)
    return Knowledge(
        items=_tensor(items),
        users=_tensor(directions(users)[:, None]),
        first=_tensor(np.arange(users)),
        count=_tensor(np.ones(users, dtype=np.int64)),
        samples=_tensor(np.zeros(users, dtype=np.int64)),
    )
