"""Cleaning of ratings, the users' time order, the profile part, and the split by user.

Users are split by a hash of their id, so that a user's split depends on no other user, on no order
of rows, and on no library's random numbers. The profile part is KAR's (arXiv 2306.10933): the first
`min(profile_interactions, half)` of a user's interactions; what follows is for lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import polars as pl

from rec.config import Data, Prepare
from rec.errors import RecError
from rec.tables import INTERACTIONS, ITEMS

SPLITS = ("train", "valid", "test")
Counts = dict[str, int]


@dataclass(frozen=True)
class Histories:
    """Clean interactions and who their users are."""

    interactions: pl.DataFrame  # INTERACTIONS
    items: pl.DataFrame  # ITEMS, sorted by item
    users: pl.DataFrame  # user, split, profile_interactions; sorted by user
    seen: pl.DataFrame  # user, item: each pair that was read, the dropped ones too
    dropped: dict[str, Counts]  # of "items", "ratings" and "users", by reason in order


def prepare_histories(
    ratings: pl.DataFrame, items: pl.DataFrame, data: Data, prepare: Prepare, seed: int
) -> Histories:
    """Clean, order and split what a reader of `rec.datasets` returned (RATINGS, ITEMS).

    Raises RecError where no rating is left, more than half are dropped, or a split has no user.
    """
    items, items_dropped = clean_items(items)
    cleaned, ratings_dropped = clean_ratings(ratings, items, data, prepare)
    users = split_users(cleaned.select("user").unique(), prepare, seed)
    interactions = order_interactions(
        cleaned.join(users, on="user", how="semi"), prepare.profile_interactions
    )
    profile = interactions.group_by("user").agg(
        profile_interactions=(pl.col("part") == "profile").sum().cast(pl.Int32)
    )
    found, enough = ratings["user"].drop_nulls().n_unique(), cleaned["user"].n_unique()
    users_dropped = {
        "too few interactions": found - enough,
        "not among prepare.users": enough - len(users),
    }
    return Histories(
        interactions=interactions,
        items=items,
        users=users.join(profile, on="user").sort("user"),
        seen=ratings.select("user", "item").drop_nulls().unique().sort("user", "item"),
        dropped={"items": items_dropped, "ratings": ratings_dropped, "users": users_dropped},
    )


def clean_items(items: pl.DataFrame) -> tuple[pl.DataFrame, Counts]:
    """Keep one row per item that has an id and a title (ITEMS), sorted by item; count the rest."""
    titled = items.filter(
        pl.col("item").is_not_null() & (pl.col("title").str.strip_chars() != "")
    ).with_columns(pl.col("categories").fill_null([]))
    unique = (
        titled.with_columns(text=pl.col("categories").list.join("\n"))
        .sort("item", "title", "year", "text", nulls_last=True)
        .unique("item", keep="first", maintain_order=True)
    )
    if unique.is_empty():
        raise RecError(f"items: none of {len(items)} rows has both an id and a title")
    dropped = {
        "id or title missing": len(items) - len(titled),
        "repeated item": len(titled) - len(unique),
    }
    return unique.select(list(ITEMS)).sort("item"), dropped


def clean_ratings(
    ratings: pl.DataFrame, items: pl.DataFrame, data: Data, prepare: Prepare
) -> tuple[pl.DataFrame, Counts]:
    """Drop the ratings that cannot be used (RATINGS in, RATINGS out); count them by reason.

    Of a repeated pair of user and item the latest rating stays. Raises RecError where no rating is
    left or more than half are dropped.
    """
    in_range = pl.col("rating").is_between(data.rating_minimum, data.rating_maximum)
    steps: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
        "exact duplicate": lambda table: table.unique(),
        "user, item or time missing": lambda table: table.drop_nulls(["user", "item", "timestamp"]),
        "rating missing or out of range": lambda table: table.filter(in_range),
        "item without metadata": lambda table: table.join(items, on="item", how="semi"),
        "repeated user and item": lambda table: table.sort(
            "user", "item", "timestamp", "rating"
        ).unique(["user", "item"], keep="last", maintain_order=True),
        "user with too few interactions": lambda table: table.filter(
            pl.len().over("user") >= prepare.minimum_interactions
        ),
    }
    dropped: Counts = {}
    kept = ratings
    for reason, step in steps.items():
        before, kept = len(kept), step(kept)
        dropped[reason] = before - len(kept)
    if kept.is_empty() or 2 * len(kept) < len(ratings):
        reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.items() if count)
        raise RecError(
            f"{data.name}: {len(ratings) - len(kept)} of {len(ratings)} ratings would be dropped"
            f" ({reasons or 'none were read'}); at most half may be: check the files,"
            " data.rating_minimum, data.rating_maximum and prepare.minimum_interactions"
        )
    return kept.sort("user", "item"), dropped


def order_interactions(ratings: pl.DataFrame, profile_interactions: int) -> pl.DataFrame:
    """Give each user's interactions their place in time and their part (INTERACTIONS).

    Interactions of one second stand in the order of their item ids: a total order. The profile part
    is the first min(profile_interactions, half rounded up).
    """
    half = (pl.len().over("user") + 1) // 2
    profile = pl.min_horizontal(half, pl.lit(profile_interactions))
    return (
        ratings.sort("user", "timestamp", "item")
        .with_columns(position=pl.int_range(pl.len(), dtype=pl.Int32).over("user"))
        .with_columns(
            part=pl.when(pl.col("position") < profile)
            .then(pl.lit("profile"))
            .otherwise(pl.lit("list"))
        )
        .select(list(INTERACTIONS))
        .sort("user", "position")
    )


def split_users(users: pl.DataFrame, prepare: Prepare, seed: int) -> pl.DataFrame:
    """Choose `prepare.users` users and split them, by hash: (user, split), sorted by user.

    Raises RecError where a split is empty.
    """
    users = users.select("user").sort("user")
    if prepare.users is not None:
        kept = uniform(users.select(pl.format("{}:keep:{}", pl.lit(seed), "user")).to_series())
        users = users.with_columns(kept.alias("u")).sort("u", "user").head(prepare.users)
    place = uniform(users.select(pl.format("{}:split:{}", pl.lit(seed), "user")).to_series())
    held_out = prepare.test_share + prepare.valid_share
    split = (
        pl.when(place < prepare.test_share)
        .then(pl.lit("test"))
        .when(place < held_out)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("train"))
    )
    result = users.select("user", split.alias("split")).sort("user")
    require_splits(result)
    return result


def require_splits(users: pl.DataFrame) -> None:
    """Raise RecError where a split has no user, with the key to change."""
    for split in SPLITS:
        if users.filter(pl.col("split") == split).is_empty():
            shares = "lower prepare.valid_share or prepare.test_share"
            advice = shares if split == "train" else f"raise prepare.{split}_share"
            raise RecError(
                f"no user of {len(users)} is in the split {split!r}; {advice},"
                " or keep more users (prepare.users)"
            )


def uniform(texts: pl.Series) -> pl.Series:
    """A number in [0, 1) for each text: the first 52 bits of its SHA-256.

    The same on every machine and with every version of every library.
    """
    keys = pl.DataFrame({"text": texts}).with_row_index("place").to_arrow()
    query = """
        SELECT place, ('0x' || left(sha256(text), 13))::UBIGINT / 4503599627370496.0::DOUBLE AS u
        FROM keys
    """
    with duckdb.connect() as connection:
        connection.register("keys", keys)
        hashed: pl.DataFrame = connection.sql(query).pl()
    return hashed.sort("place")["u"].cast(pl.Float64)
