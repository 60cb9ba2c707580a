"""Users by the length of their history, lists by the popularity of their positives."""

from __future__ import annotations

import numpy as np
import polars as pl

HISTORIES = ("short", "middle", "long")
POPULARITIES = ("head", "torso", "tail")


def history_thirds(lists: pl.DataFrame) -> dict[str, set[str]]:
    """Users of the lists (table LISTS) in thirds by the length of their history.

    That is the mean over a user's lists of the number of interactions before the list. Users of one
    length stand together, so that thirds differ in size where many are alike, and one may be empty:
    it is left out.

    By hand: users with 10, 20, 20, 20 and 50 interactions. The ends of the thirds are 20 and 20:
    four users are short, none is in the middle, one is long.
    """
    means = lists.group_by("user").agg(pl.col("position").mean()).sort("user")
    if means.is_empty():
        return {}
    lengths = means["position"].to_numpy()
    ends = np.quantile(lengths, [1 / 3, 2 / 3], method="lower")
    place = np.searchsorted(ends, lengths, side="left")
    users = means["user"].to_numpy()
    found = {name: set(users[place == number]) for number, name in enumerate(HISTORIES)}
    return {name: chosen for name, chosen in found.items() if chosen}


def item_classes(items: pl.DataFrame) -> pl.DataFrame:
    """Head, torso and tail: the most popular items that together have the first third of the train
    interactions, those that have the second, and the rest. Columns item and class.

    An item belongs where its own interactions begin. By hand: items with 6, 3, 2 and 1 of 12
    interactions begin at 0, 6, 9 and 11 of 12: head (below 4), torso (below 8), tail, tail.
    """
    order = items.sort("rank").select("item", "popularity")
    counts = order["popularity"].to_numpy().astype(np.int64)
    before = np.cumsum(counts) - counts
    total = max(int(counts.sum()), 1)
    place = np.minimum(3 * before // total, 2)
    names = np.array(POPULARITIES)[place]
    return order.select("item").with_columns(pl.Series("class", names, dtype=pl.String))


def list_classes(lists: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """The class of each list (table LISTS): of the middle one of its positives by popularity.

    Of an even number it is the more popular one of the two in the middle. Columns list and class;
    lists without a positive are in none.

    By hand: positives of ranks 3, 40 and 900: the class of the item of rank 40.
    """
    ranks = items.select("item", "rank")
    middle = (
        lists.select("list", "items", "labels")
        .explode("items", "labels")
        .filter(pl.col("labels") >= 1)
        .join(ranks, left_on="items", right_on="item")
        .sort("list", "rank")
        .group_by("list", maintain_order=True)
        .agg(pl.col("rank").get((pl.len() - 1) // 2))
    )
    classes = item_classes(items).join(ranks, on="item")
    return middle.join(classes, on="rank").select("list", "class").sort("list")
