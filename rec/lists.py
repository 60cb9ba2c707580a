"""Lists to re-rank: a user's later interactions with negatives, in an initial ranker's order.

KAR's protocol (arXiv 2306.10933, re-ranking): consecutive later interactions open a list, and items
that the user never interacted with fill it. Negatives are drawn by popularity**exponent or
uniformly (KAR). Each draw is a hash of the seed, the list and the draw's number: another list, the
order of rows and the count of threads change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from rec.config import Prepare
from rec.errors import RecError
from rec.interactions import SPLITS, Counts, Histories, require_splits, uniform
from rec.tables import INTERACTIONS, LISTS, USERS

#: Draws per list: few for all lists, more for those left short, then the exact way.
DRAWS = (16, 128)
ROWS = 4_000_000  # rows of a table of draws in memory at once


@dataclass(frozen=True)
class Prepared:
    """What the stage prepare writes."""

    interactions: pl.DataFrame  # INTERACTIONS
    users: pl.DataFrame  # USERS
    lists: pl.DataFrame  # LISTS
    summary: dict[str, Any]  # counts; drops by reason


@dataclass(frozen=True)
class Catalogue:
    """The items: how likely each is drawn, and where the initial ranker puts it."""

    items: pl.DataFrame  # item, code (0-based), rank (the initial ranker's place)
    weights: npt.NDArray[np.float64]  # of a draw, by code


def prepare_lists(
    histories: Histories, prepare: Prepare, positive_rating: float, seed: int
) -> Prepared:
    """Build the lists of all users and drop the users who have none.

    Raises RecError where no list or, in a split, no user is left.
    """
    blocks, dropped = own_blocks(histories, prepare, positive_rating)
    _require_lists(blocks, dropped)
    per_user = blocks.group_by("user").agg(lists=pl.len().cast(pl.Int32))
    users = histories.users.join(per_user, on="user").select(list(USERS)).sort("user")
    require_splits(users)
    interactions = histories.interactions.join(users, on="user", how="semi")
    blocks = blocks.join(users.select("user", "split"), on="user").sort("user", "position")
    catalogue = build_catalogue(histories.items, interactions, users, prepare, seed)
    lists = fill_lists(blocks, catalogue, histories.seen, prepare.list_size, seed)
    full = blocks.filter(pl.col("labels").list.sum() == prepare.list_interactions)
    counts = {
        "users": _by_split(users),
        "items": len(histories.items),
        "interactions": len(interactions),
        "lists": _by_split(lists),
        "positives_per_list": round(_mean(lists["labels"].list.sum()), 4),
        "lists_with_all_own_positive": len(full),
    }
    without = {"without a list": len(histories.users) - len(users)}
    users_dropped = {**histories.dropped["users"], **without}
    drops = {**histories.dropped, "users": users_dropped, "lists": dropped}
    return Prepared(
        interactions=interactions.select(list(INTERACTIONS)).sort("user", "position"),
        users=users,
        lists=lists,
        summary={**counts, "dropped": drops},
    )


def _require_lists(blocks: pl.DataFrame, dropped: Counts) -> None:
    if blocks.is_empty():
        reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.items())
        raise RecError(
            f"no list is left ({reasons}); check data.positive_rating, prepare.list_interactions,"
            " prepare.profile_interactions and prepare.list_size"
        )


def _by_split(table: pl.DataFrame) -> Counts:
    return {split: len(table.filter(pl.col("split") == split)) for split in SPLITS}


def _mean(column: pl.Series) -> float:
    return float(column.to_numpy().mean())


def own_blocks(
    histories: Histories, prepare: Prepare, positive_rating: float
) -> tuple[pl.DataFrame, Counts]:
    """Cut the users' later interactions into blocks; count those that make no list, by reason.

    A block: user, block (its number), position, own (item ids) and labels, in time order.
    """
    size = prepare.list_interactions
    later = histories.interactions.filter(pl.col("part") == "list").sort("user", "position")
    cut = (
        later.with_columns(
            block=(pl.col("position") - pl.col("position").min().over("user")) // size
        )
        .group_by("user", "block")
        .agg(
            position=pl.col("position").min(),
            own=pl.col("item").sort_by("position"),
            labels=(pl.col("rating") >= positive_rating).cast(pl.Int8).sort_by("position"),
        )
        .sort("user", "position")
    )
    whole = cut.filter(pl.col("own").list.len() == size)
    useful = whole.filter(pl.col("labels").list.sum() > 0)
    known = histories.seen.join(histories.items, on="item", how="semi")
    free = known.group_by("user").agg(free=len(histories.items) - pl.len().cast(pl.Int64))
    fillable = (
        useful.join(free, on="user")
        .filter(pl.col("free") >= prepare.list_size - size)
        .sort("user", "position")
    )
    most = prepare.lists_per_user
    kept = fillable if most is None else fillable.filter(pl.int_range(pl.len()).over("user") < most)
    dropped = {
        "short last block": len(cut) - len(whole),
        "without a positive": len(whole) - len(useful),
        "too few items left as negatives": len(useful) - len(fillable),
        "beyond prepare.lists_per_user": len(fillable) - len(kept),
    }
    return kept.drop("free"), dropped


def build_catalogue(
    items: pl.DataFrame,
    interactions: pl.DataFrame,
    users: pl.DataFrame,
    prepare: Prepare,
    seed: int,
) -> Catalogue:
    """Count the items' interactions of train users, for the draws and for the initial ranker.

    Every item counts one more, so that each can be drawn. The initial ranker puts items of one
    popularity in the order of a hash.
    """
    train = users.filter(pl.col("split") == "train")
    counts = interactions.join(train, on="user", how="semi").group_by("item").len("count")
    table = (
        items.select("item")
        .join(counts, on="item", how="left")
        .with_columns(pl.col("count").fill_null(0).cast(pl.Int64) + 1)
        .sort("item")
        .with_row_index("code")
    )
    ties = uniform(table.select(pl.format("{}:rank:{}", pl.lit(seed), "item")).to_series())
    ranked = (
        table.with_columns(tie=ties)
        .sort("count", "tie", "item", descending=[True, False, False])
        .with_row_index("rank")
        .sort("code")
    )
    exponent = prepare.popularity_exponent if prepare.negatives == "popularity" else 0.0
    weights = table["count"].to_numpy().astype(np.float64) ** exponent
    return Catalogue(ranked.select("item", "code", "rank"), weights)


def fill_lists(
    blocks: pl.DataFrame, catalogue: Catalogue, seen: pl.DataFrame, list_size: int, seed: int
) -> pl.DataFrame:
    """Fill blocks (with user and split) with negatives; order by the initial ranker: LISTS."""
    blocks = blocks.with_columns(list=pl.format("{}-{}", "user", "block"))
    users = blocks.select("user").unique().sort("user").with_row_index("user_code")
    pairs = (
        seen.join(users, on="user")
        .join(catalogue.items, on="item")
        .select("user_code", "code")
        .sort("user_code", "code")
    )
    own = blocks.select("list", item="own", label="labels").explode("item", "label")
    needed = blocks.join(users, on="user").select(
        "list", "user_code", needed=list_size - pl.col("own").list.len().cast(pl.Int64)
    )
    negatives = (
        draw_negatives(needed.sort("list"), catalogue, pairs, seed)
        .join(catalogue.items, on="code")
        .select("list", "item", label=pl.lit(0, pl.Int8))
    )
    filled = (
        pl.concat([own, negatives])
        .join(catalogue.items, on="item")
        .group_by("list")
        .agg(
            items=pl.col("item").sort_by("rank"),
            labels=pl.col("label").sort_by("rank"),
        )
    )
    return (
        blocks.drop("labels").join(filled, on="list").select(list(LISTS)).sort("user", "position")
    )


def draw_negatives(
    lists: pl.DataFrame, catalogue: Catalogue, seen: pl.DataFrame, seed: int
) -> pl.DataFrame:
    """Draw `needed` distinct items for each list, none of which its user has seen: (list, code).

    `lists` holds list, user_code and needed; `seen` user_code and code. A list's items are its
    first valid draws, so each comes with a probability in proportion to its weight among those
    that are left. A list still short after the last draw is filled from all items at once, by the
    equivalent race of exponential clocks (Efraimidis and Spirakis, 2006).
    """
    found = [pl.DataFrame(schema={"list": pl.String, "code": pl.UInt32})]
    for draws in DRAWS:
        for some in _slices(lists, draws):
            found.append(_complete(_drawn(some, catalogue, seen, draws, seed), some))
        lists = lists.join(pl.concat(found), on="list", how="anti").sort("list")
    for some in _slices(lists, len(catalogue.weights)):
        found.append(_raced(some, catalogue, seen, seed))
    return pl.concat(found).sort("list", "code")


def _slices(lists: pl.DataFrame, rows_per_list: int) -> Iterator[pl.DataFrame]:
    return lists.iter_slices(max(1, ROWS // rows_per_list))


def _complete(drawn: pl.DataFrame, lists: pl.DataFrame) -> pl.DataFrame:
    """The draws of the lists that have all they need."""
    counts = drawn.group_by("list").len("found").join(lists, on="list")
    full = counts.filter(pl.col("found") == pl.col("needed"))
    return drawn.join(full, on="list", how="semi")


def _drawn(
    lists: pl.DataFrame, catalogue: Catalogue, seen: pl.DataFrame, draws: int, seed: int
) -> pl.DataFrame:
    numbers = pl.DataFrame({"draw": pl.int_range(draws, eager=True)})
    table = lists.join(numbers, how="cross")
    key = pl.format("{}:negative:{}:{}", pl.lit(seed), "list", "draw")
    cumulative = np.cumsum(catalogue.weights)
    place = uniform(table.select(key).to_series()).to_numpy() * cumulative[-1]
    codes = np.searchsorted(cumulative, place, side="right").clip(max=len(cumulative) - 1)
    return (
        table.with_columns(code=pl.Series(codes, dtype=pl.UInt32))
        .join(seen, on=["user_code", "code"], how="anti")
        .sort("list", "draw")
        .unique(["list", "code"], keep="first", maintain_order=True)
        .filter(pl.int_range(pl.len()).over("list") < pl.col("needed"))
        .select("list", "code")
    )


def _raced(
    lists: pl.DataFrame, catalogue: Catalogue, seen: pl.DataFrame, seed: int
) -> pl.DataFrame:
    weights = catalogue.items.select("item", "code", weight=pl.Series(catalogue.weights))
    table = lists.join(weights, how="cross").join(seen, on=["user_code", "code"], how="anti")
    key = pl.format("{}:race:{}:{}", pl.lit(seed), "list", "item")
    clock = -(1 - uniform(table.select(key).to_series())).log() / table["weight"]
    return (
        table.with_columns(clock=clock)
        .sort("list", "clock", "code")
        .filter(pl.int_range(pl.len()).over("list") < pl.col("needed"))
        .select("list", "code")
    )
