"""The tables of a range of users: histories in the order of time, users, lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from rec.config import SHOWN, Prepare
from rec.hashing import Keys
from rec.impressions import Shown, kept_rows
from rec.interactions import order_interactions, tie_keys, tied
from rec.lists import Lists, Ranker, chosen_lists, fill_lists, list_states, own_blocks
from rec.negatives import Seen
from rec.ranges import Ranges
from rec.shown import NOT_KEPT, lists_table, shown_lists
from rec.tables import LISTS

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Counts = Counter[str]

LISTS_AT_ONCE = 1 << 16  # that are filled and written together


@dataclass(frozen=True)
class Kept:
    """What stays of the data: users with their split, and items."""

    users: Booleans  # over the users of the ranges
    splits: pl.Series  # over the users of the ranges; null where one is not kept
    items: Booleans  # over the items with metadata
    popularity: Integers  # of the kept items: interactions of train users
    dropped: dict[str, int]  # users by reason


@dataclass(frozen=True)
class Made:
    """The lists of a range: whose they are, and the tables with them, made when asked for."""

    owners: Integers  # [lists] place among the users of the range
    #: Protocol and LISTS, together all lists of each; those of the same lists follow each other.
    tables: Iterator[tuple[str, pl.DataFrame]]
    dropped: Counts  # lists by reason
    left_out: Counts = field(default_factory=Counter)  # items of shown lists by reason


@dataclass(frozen=True)
class Part:
    """What a range of users comes to."""

    interactions: pl.DataFrame  # INTERACTIONS
    users: pl.DataFrame  # USERS
    lists: Made
    tied: int  # interactions of the same user and time as another


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
    shown: Shown | None = None  # lists as shown, which are then the only ones

    @cached_property
    def item_keys(self) -> Keys:
        """The keys of the kept items that break ties in time."""
        return tie_keys(self.items, self.seed)

    def part(self, number: int) -> Part:
        """The tables of range `number`."""
        start, end = self.ranges.starts[number : number + 2]
        users = self.ranges.ids(number)
        splits = self.kept.splits.slice(start, end - start)
        pairs = self._pairs(number, self.kept.users[start:end])
        usable = pairs.filter("usable").drop("usable")
        interactions = order_interactions(
            usable,
            self.prepare.profile_interactions,
            tie_keys(users, self.seed),
            self.item_keys,
        )
        if self.shown is None:
            made = self._sampled(pairs, interactions, users, splits)
        else:
            made = self._shown(self.shown, number, interactions, users, splits)
        count = np.bincount(made.owners, minlength=len(users))
        interactions = interactions.filter(pl.Series(count[interactions["user"].to_numpy()] > 0))
        return Part(
            interactions=self._interactions_table(interactions, users),
            users=_users_table(interactions, users, splits, count),
            lists=made,
            tied=int(
                tied(*(interactions[name].to_numpy() for name in ("user", "timestamp"))).sum()
            ),
        )

    def _pairs(self, number: int, users: Booleans) -> pl.DataFrame:
        """The pairs of kept users and kept items, the items numbered among the kept ones."""
        pairs = self.ranges.pairs(number)
        item = pairs["item"].to_numpy()
        both = users[pairs["user"].to_numpy()] & self.kept.items[item]
        numbers = np.cumsum(self.kept.items, dtype=np.uint32) - np.uint32(1)
        return pairs.with_columns(item=pl.Series(numbers[item])).filter(pl.Series(both))

    def _sampled(
        self, pairs: pl.DataFrame, interactions: pl.DataFrame, users: pl.Series, splits: pl.Series
    ) -> Made:
        """Lists of later interactions with negatives, for each protocol."""
        places = pairs["user"].to_numpy().astype(np.int64) * len(self.items)
        seen = Seen(np.sort(places + pairs["item"].to_numpy()), len(self.items))
        own, dropped = own_blocks(interactions, seen, self.prepare, self.positive_rating)
        states = list_states(users, own, self.seed)

        def tables() -> Iterator[tuple[str, pl.DataFrame]]:
            for start in range(0, len(states), LISTS_AT_ONCE):
                some = slice(start, start + LISTS_AT_ONCE)
                blocks = chosen_lists(own, some)
                size = self.prepare.list_size
                for protocol in self.prepare.negatives:
                    filled = fill_lists(blocks, states[some], self.ranker, protocol, seen, size)
                    yield protocol, self._lists_table(filled, users, splits)

        return Made(own.users, tables(), dropped)

    def _shown(
        self,
        shown: Shown,
        number: int,
        interactions: pl.DataFrame,
        users: pl.Series,
        splits: pl.Series,
    ) -> Made:
        """Lists as they were shown."""
        start, end = self.ranges.starts[number : number + 2]
        every = shown.rows(number)
        rows = kept_rows(every, self.kept.users[start:end], self.kept.items)
        found = shown_lists(rows, interactions, self.prepare)
        found.dropped[NOT_KEPT] += every["list"].n_unique() - rows["list"].n_unique()
        owners = found.lists["user"].to_numpy()
        table = lists_table(found.lists, users, splits, self.items)
        return Made(owners, iter([(SHOWN, table)]), found.dropped, found.items)

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
