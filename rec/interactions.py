"""The users' time order, the profile part, and the split by user.

Users are split by a hash of their id, so that a user's split depends on no other user, on no order
of rows, and on no library's random numbers. The profile part is KAR's (arXiv 2306.10933): the first
`min(profile_interactions, half)` of a user's interactions; what follows is for lists.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from rec.config import Prepare
from rec.errors import RecError
from rec.hashing import Keys, keyed, keys, mixed, uniform

Integers = npt.NDArray[np.int64]

SPLITS = ("train", "valid", "test")


def tie_keys(ids: pl.Series, seed: int) -> Keys:
    """The keys of users, or of items, that `order_interactions` takes."""
    return keys(keyed(f"{seed}:tie:", ids))


def order_interactions(
    pairs: pl.DataFrame, profile_interactions: int, users: Keys, items: Keys
) -> pl.DataFrame:
    """Give each user's interactions (user, item, rating, timestamp) their place in time and part.

    Sorted by user and `position`. Interactions of one time stand in the order of a hash of user and
    item, from `users` and `items` (`tie_keys`, by number): an order by the item's id, or by the row
    of a file that is sorted by items, would be the same for all users, and tell which items come
    next. `profile` says whether an interaction is in the profile part, the first
    min(profile_interactions, half rounded up).
    """
    columns = [pairs[name].to_numpy() for name in ("user", "timestamp", "item")]
    order = _shuffled_ties(_order(*columns), columns, users, items)
    pairs = pairs[order]
    user = pairs["user"].to_numpy()
    starts = np.flatnonzero(np.diff(user, prepend=-1) != 0) if len(user) else order
    counts = np.diff(np.append(starts, len(user)))
    position = np.arange(len(user)) - np.repeat(starts, counts)
    most = np.repeat(np.minimum((counts + 1) // 2, profile_interactions), counts)
    return pairs.with_columns(
        position=pl.Series(position).cast(pl.Int32), profile=pl.Series(position < most)
    )


def _shuffled_ties(order: Integers, columns: list[Integers], users: Keys, items: Keys) -> Integers:
    """`order` of rows by (user, timestamp, item), those of one user and time put in hash order."""
    user, time, item = columns
    among_ties = tied(user[order], time[order])
    rows = order[among_ties]
    changes = np.diff(user[rows], prepend=-1) | np.diff(time[rows], prepend=-1)
    run = np.cumsum(changes != 0).astype(np.uint64)
    place = mixed(users[user[rows]] ^ mixed(items[item[rows]])) >> np.uint64(32)
    order[among_ties] = rows[np.argsort(run << np.uint64(32) | place, kind="stable")]
    return order


def tied(user: Integers, time: Integers) -> npt.NDArray[np.bool_]:
    """Which of n sorted interactions, [n], stand beside one of the same user and time.

    >>> tied(np.array([0, 0, 0, 1]), np.array([7, 7, 8, 8])).tolist()
    [True, True, False, False]
    """
    same = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    either: npt.NDArray[np.bool_] = np.append(same, False) | np.append(False, same)
    return either[: len(user)]


def _order(*columns: Integers) -> Integers:
    """The order of distinct rows by columns of integers, the first column first.

    Columns that fit 64 bits together are sorted as one number, several times as fast.
    """
    lowest = [int(column.min(initial=0)) for column in columns]
    spans = [int(column.max(initial=0)) - low for column, low in zip(columns, lowest, strict=True)]
    widths = [span.bit_length() for span in spans]
    if sum(widths) >= 64:
        order: Integers = np.lexsort(columns[::-1])
        return order
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for column, low, width in zip(columns, lowest, widths, strict=True):
        key <<= width
        key += column
        key -= low
    return np.argsort(key)


def choose_users(users: pl.Series, count: int | None, seed: int) -> pl.Series:
    """`count` of the users, by hash, in their order; None is all."""
    if count is None or count >= len(users):
        return users
    table = pl.DataFrame({"user": users, "place": uniform(keyed(f"{seed}:keep:", users))})
    return table.sort("place", "user").head(count)["user"].sort()


def split_users(users: pl.Series, prepare: Prepare, seed: int) -> pl.Series:
    """The split of each user, by hash."""
    place = pl.DataFrame({"place": uniform(keyed(f"{seed}:split:", users))})
    held_out = prepare.test_share + prepare.valid_share
    split = (
        pl.when(pl.col("place") < prepare.test_share)
        .then(pl.lit("test"))
        .when(pl.col("place") < held_out)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("train"))
    )
    return place.select(split=split)["split"]


def require_splits(users: Mapping[str, int]) -> None:
    """Raise RecError where a split has none of the users, counted by split."""
    for split in SPLITS:
        if not users.get(split):
            shares = "lower prepare.valid_share or prepare.test_share"
            advice = shares if split == "train" else f"raise prepare.{split}_share"
            raise RecError(
                f"no user of {sum(users.values())} is in the split {split!r}; {advice},"
                " or keep more users (prepare.users)"
            )
