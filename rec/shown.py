"""Lists to re-rank as users were shown them, in the order in which they were shown.

A list's time is that of its earliest row; what the user did strictly before it is the history. A
list that comes too early, or that cannot tell re-rankers apart, is dropped and counted by reason.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import polars as pl

from rec.cleaning import LAST_SECOND
from rec.config import Prepare
from rec.tables import LISTS

Counts = Counter[str]

#: Why a list is not re-ranked; of several reasons the first.
NO_INTERACTIONS = "user without interactions"
NOT_KEPT = "user not kept"
WITHIN_PROFILE = "within the profile part"
NO_POSITIVE = "without a positive"
NO_NEGATIVE = "without a negative"
TOO_MANY = "beyond prepare.lists_per_user"
REASONS = (NO_INTERACTIONS, NOT_KEPT, WITHIN_PROFILE, NO_POSITIVE, NO_NEGATIVE, TOO_MANY)
#: Why an item of a list is not in it, or not again.
AGAIN = "shown again in the list"
CUT = "beyond prepare.list_size"


class ShownLists(NamedTuple):
    """The lists of a range, and what was left out of them."""

    lists: pl.DataFrame  # list, user, position, items, labels
    dropped: Counts  # lists by reason: REASONS
    items: Counts  # items of lists after the profile part, by reason: AGAIN, CUT


def shown_lists(shown: pl.DataFrame, interactions: pl.DataFrame, prepare: Prepare) -> ShownLists:
    """The lists to re-rank of a range of users.

    `shown` are those of `rec.impressions.kept_rows`, in any order; `interactions` are those of
    `rec.interactions.order_interactions`. A list's `position` is how many interactions of its user
    lie strictly before its time. `items` stand as they were shown: by place, those without one
    last, and by file and row where places are the same. Of an item that stands twice the first
    place and the highest label count. The first `prepare.list_size` items stay.

    A list is dropped that does not come strictly after the profile part, that has no positive, that
    has no negative, and that comes after the user's first `prepare.lists_per_user` others. Sorted
    by user, time (and with it position) and list.
    """
    rows = shown.sort("user", "list", "place", "file", "row", nulls_last=True)
    rows = rows.with_columns(number=pl.struct("user", "list").rle_id())
    heads = _heads(rows, interactions)
    after = heads.filter(pl.col("reason").is_null())
    rows = rows.join(after.select("number"), on="number", how="semi", maintain_order="left")
    once = rows.with_columns(label=pl.col("label").max().over("number", "item")).unique(
        ["number", "item"], keep="first", maintain_order=True
    )
    stay = once.filter(pl.int_range(pl.len()).over("number") < prepare.list_size)
    lists = stay.group_by("number", maintain_order=True).agg(
        items=pl.col("item"), labels=pl.col("label").cast(pl.Int8)
    )
    lists = after.join(lists, on="number", how="left", maintain_order="left")
    lists = _limited(lists.with_columns(reason=_useless()), prepare.lists_per_user)
    dropped = Counter(dict.fromkeys(REASONS, 0))
    for table in (heads, lists):
        dropped.update(table["reason"].drop_nulls().to_list())
    left_out = Counter({AGAIN: len(rows) - len(once), CUT: len(once) - len(stay)})
    kept = lists.filter(pl.col("reason").is_null())
    return ShownLists(kept.select("list", "user", "position", "items", "labels"), dropped, left_out)


def _heads(rows: pl.DataFrame, interactions: pl.DataFrame) -> pl.DataFrame:
    """A row per list: number, user, list, time, position, and the reason to drop it or null."""
    heads = rows.group_by("number", maintain_order=True).agg(
        pl.col("user", "list").first(), time=pl.col("timestamp").min()
    )
    span = LAST_SECOND + 1
    owner = interactions["user"].to_numpy().astype(np.int64)
    seconds = owner * span + interactions["timestamp"].to_numpy()
    user = heads["user"].to_numpy().astype(np.int64)
    position = np.searchsorted(seconds, user * span + heads["time"].to_numpy())
    position -= np.searchsorted(owner, user)
    people = int(max(owner.max(initial=-1), user.max(initial=-1))) + 1
    profile = np.bincount(owner[interactions["profile"].to_numpy()], minlength=people)[user]
    reason = (
        pl.when(pl.col("profile") == 0)
        .then(pl.lit(NO_INTERACTIONS))
        .when(pl.col("position") < pl.col("profile"))
        .then(pl.lit(WITHIN_PROFILE))
    )
    return heads.with_columns(
        position=pl.Series(position, dtype=pl.Int32), profile=pl.Series(profile, dtype=pl.Int64)
    ).with_columns(reason=reason)


def _useless() -> pl.Expr:
    """Why a list cannot tell re-rankers apart, or null."""
    return (
        pl.when(pl.col("labels").list.max() == 0)
        .then(pl.lit(NO_POSITIVE))
        .when(pl.col("labels").list.min() == 1)
        .then(pl.lit(NO_NEGATIVE))
    )


def _limited(lists: pl.DataFrame, most: int | None) -> pl.DataFrame:
    """Sorted by user, time and list; of those without a reason the first `most` of a user stay."""
    lists = lists.sort("user", "time", "list")
    if most is None:
        return lists
    number = pl.col("reason").is_null().cast(pl.Int64).cum_sum().over("user")
    beyond = pl.col("reason").is_null() & (number > most)
    return lists.with_columns(reason=pl.when(beyond).then(pl.lit(TOO_MANY)).otherwise("reason"))


def lists_table(
    lists: pl.DataFrame, users: pl.Series, splits: pl.Series, items: pl.Series
) -> pl.DataFrame:
    """LISTS of `ShownLists.lists`: the ids and splits are those of a range's users, in order."""
    cells = lists.select(pl.int_range(pl.len()).alias("row"), "items").explode("items")
    named = cells.select("row", items=items.gather(cells["items"]))
    return lists.with_columns(
        user=users.gather(lists["user"]),
        split=splits.gather(lists["user"]),
        items=named.group_by("row", maintain_order=True).agg("items")["items"],
    ).select(list(LISTS))
