"""The tables of a range of users: histories in the order of time, users, lists."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rec.config import Prepare
from rec.interactions import order_interactions
from rec.lists import Lists, Ranker, fill_lists, list_states, own_blocks
from rec.negatives import Seen
from rec.ranges import Ranges
from rec.tables import LISTS

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Kept:
    """What stays of the data: users with their split, and items."""

    users: Booleans  # over the users of the ranges
    splits: pl.Series  # over the users of the ranges; null where one is not kept
    items: Booleans  # over the items with metadata
    popularity: Integers  # of the kept items: interactions of train users
    dropped: dict[str, int]  # users by reason


@dataclass(frozen=True)
class Histories:
    """The histories of a range of users, and what their lists are made from."""

    interactions: pl.DataFrame  # INTERACTIONS
    users: pl.DataFrame  # USERS
    ids: pl.Series  # of the range's users, those without a list too
    splits: pl.Series
    own: Lists  # the users' own items alone
    seen: Seen
    dropped: Counter[str]  # lists by reason


@dataclass(frozen=True)
class Worker:
    """Makes the tables of a range of users."""

    ranges: Ranges
    kept: Kept
    items: pl.Series  # ids of the kept items
    ranker: Ranker
    prepare: Prepare
    positive_rating: float
    seed: int

    def histories(self, number: int) -> Histories:
        """The histories of range `number`."""
        start, end = self.ranges.starts[number : number + 2]
        users = self.ranges.ids(number)
        splits = self.kept.splits.slice(start, end - start)
        pairs = self._pairs(number, self.kept.users[start:end])
        places = pairs["user"].to_numpy().astype(np.int64) * len(self.items)
        seen = Seen(np.sort(places + pairs["item"].to_numpy()), len(self.items))
        usable = pairs.filter("usable").drop("usable")
        interactions = order_interactions(usable, self.prepare.profile_interactions)
        own, dropped = own_blocks(interactions, seen, self.prepare, self.positive_rating)
        count = np.bincount(own.users, minlength=len(users))
        interactions = interactions.filter(pl.Series(count[interactions["user"].to_numpy()] > 0))
        return Histories(
            interactions=self._interactions_table(interactions, users),
            users=_users_table(interactions, users, splits, count),
            ids=users,
            splits=splits,
            own=own,
            seen=seen,
            dropped=dropped,
        )

    def lists(self, histories: Histories) -> pl.DataFrame:
        """The lists of some histories: LISTS."""
        own, size = histories.own, self.prepare.list_size
        states = list_states(histories.ids, own, self.seed)
        lists = fill_lists(own, states, self.ranker, histories.seen, size)
        return self._lists_table(lists, histories.ids, histories.splits)

    def _pairs(self, number: int, users: Booleans) -> pl.DataFrame:
        """The pairs of kept users and kept items, the items numbered among the kept ones."""
        pairs = self.ranges.pairs(number)
        item = pairs["item"].to_numpy()
        both = users[pairs["user"].to_numpy()] & self.kept.items[item]
        numbers = np.cumsum(self.kept.items, dtype=np.uint32) - np.uint32(1)
        return pairs.with_columns(item=pl.Series(numbers[item])).filter(pl.Series(both))

    def _interactions_table(self, interactions: pl.DataFrame, users: pl.Series) -> pl.DataFrame:
        part = pl.when("profile").then(pl.lit("profile")).otherwise(pl.lit("list"))
        return interactions.select(
            user=users.gather(interactions["user"]),
            item=self.items.gather(interactions["item"]),
            rating="rating",
            timestamp="timestamp",
            position="position",
            part=part,
        )

    def _lists_table(self, lists: Lists, users: pl.Series, splits: pl.Series) -> pl.DataFrame:
        cells = self.items.gather(lists.items.ravel()).reshape(lists.items.shape).arr.to_list()
        table = pl.DataFrame(
            {
                "user": users.gather(lists.users),
                "split": splits.gather(lists.users),
                "block": lists.block,
                "position": pl.Series(lists.position, dtype=pl.Int32),
                "items": cells,
                "labels": pl.Series(lists.labels).cast(pl.List(pl.Int8)),
            }
        )
        return table.select(pl.format("{}-{}", "user", "block").alias("list"), *list(LISTS)[1:])


def _users_table(
    interactions: pl.DataFrame, users: pl.Series, splits: pl.Series, lists: Integers
) -> pl.DataFrame:
    owner = interactions["user"].filter(interactions["profile"]).to_numpy()
    table = pl.DataFrame(
        {
            "user": users,
            "split": splits,
            "profile_interactions": pl.Series(np.bincount(owner, minlength=len(users))),
            "lists": pl.Series(lists),
        }
    )
    return table.filter(pl.col("lists") > 0).cast(
        {"profile_interactions": pl.Int32, "lists": pl.Int32}
    )
