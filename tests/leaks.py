"""No list may know what lies ahead: a check for any prepared tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import polars as pl

from rec.config import Data, Prepare


class Tables(Protocol):
    """The tables of a preparation."""

    @property
    def interactions(self) -> pl.DataFrame: ...
    @property
    def items(self) -> pl.DataFrame: ...
    @property
    def users(self) -> pl.DataFrame: ...
    @property
    def lists(self) -> pl.DataFrame: ...
    @property
    def further(self) -> Mapping[str, pl.DataFrame]: ...


def check_leaks(
    tables: Tables,
    prepare: Prepare,
    data: Data,
    raw: pl.DataFrame | None = None,
    published: pl.DataFrame | None = None,
) -> None:
    """Assert that the lists of every protocol hold later interactions and true negatives alone.

    `raw` are user and item of all published rows, faulty ones included: none may be a negative.
    Lists that were shown (`data.tabular.impressions`) hold what was shown instead, and after the
    profile part; `published` are list, item, label (0 or 1) and timestamp of all their rows that
    have no fault.
    """
    _check_users(tables, ["timestamp"] if published is not None else [])
    lists = tables.lists.join(
        tables.users.select("user", "profile_interactions"), on="user", how="left"
    )
    assert (lists["position"] >= lists["profile_interactions"]).all(), "list within the profile"
    if data.tabular.impressions.file:
        assert not tables.further, "lists that were not shown"
        _check_shown(tables, prepare, published)
        return
    assert list(tables.further) == prepare.negatives[1:]
    for made in (tables.lists, *tables.further.values()):
        same = ("list", "user", "split", "position")
        assert made.select(same).equals(tables.lists.select(same)), "other lists by protocol"
        _check_made(tables, made, prepare, data, raw)


def _check_shown(tables: Tables, prepare: Prepare, published: pl.DataFrame | None) -> None:
    """Lists of what was shown, each after all that its history holds and before the rest."""
    lists, sizes = tables.lists, tables.lists["items"].list.len()
    assert lists["list"].is_unique().all(), "two lists of one id"
    assert lists.select("user", "position").equals(
        lists.select("user", "position").sort("user", "position")
    )
    assert sizes.is_between(2, prepare.list_size).all()
    assert (sizes == lists["items"].list.n_unique()).all(), "item twice in a list"
    assert (sizes == lists["labels"].list.len()).all()
    assert lists["labels"].list.max().eq(1).all(), "list without a positive"
    assert lists["labels"].list.min().eq(0).all(), "list without a negative"
    cells = lists.select("list", "items", "labels").explode("items", "labels")
    assert cells["items"].is_in(tables.items["item"].implode()).all()
    if published is None:
        return
    labels = published.group_by("list", "item").agg(published=pl.col("label").max())
    cells = cells.join(labels, left_on=["list", "items"], right_on=["list", "item"], how="left")
    assert cells["published"].null_count() == 0, "item that was not shown"
    assert (cells["labels"] == cells["published"]).all(), "wrong label"
    known = published.filter(pl.col("item").is_in(tables.items["item"].implode()))
    times = known.group_by("list").agg(time=pl.col("timestamp").min())
    met = (
        lists.select("list", "user", start="position")
        .join(times, on="list", how="left")
        .join(tables.interactions, on="user", how="left")
    )
    assert met["time"].null_count() == 0, "list that was not shown"
    before = met["timestamp"] < met["time"]
    assert (before == (met["position"] < met["start"])).all(), "history that is not before the list"
    assert (before | (met["part"] == "list")).all(), "profile that is not before the list"


def _check_made(
    tables: Tables, lists: pl.DataFrame, prepare: Prepare, data: Data, raw: pl.DataFrame | None
) -> None:
    """Lists of a block of later interactions and of what the user never interacted with."""
    own = prepare.list_interactions
    apart = lists.select(pl.col("position").diff().over("user").drop_nulls())
    assert (apart["position"] >= own).all(), "lists of a user share own items"
    assert (lists["items"].list.len() == prepare.list_size).all()
    assert (lists["items"].list.n_unique() == prepare.list_size).all(), "item twice in a list"
    cells = lists.select("list", "user", "items", "labels", start="position").explode(
        "items", "labels"
    )
    assert cells["items"].is_in(tables.items["item"].implode()).all()
    cells = cells.join(
        tables.interactions, left_on=["user", "items"], right_on=["user", "item"], how="left"
    )
    known = cells.filter(pl.col("position").is_not_null())
    assert (known["part"] == "list").all(), "item of the profile in a list"
    assert (known["position"] >= known["start"]).all(), "item before the list in the list"
    assert (known["position"] < known["start"] + own).all(), "later item as a negative"
    assert len(known) == own * len(lists), "own items missing"
    liked = (known["rating"] >= data.positive_rating).cast(pl.Int8)
    assert (known["labels"] == liked).all(), "wrong label"
    negatives = cells.filter(pl.col("position").is_null())
    assert (negatives["labels"] == 0).all(), "negative with label 1"
    assert lists["labels"].list.max().eq(1).all(), "list without a positive"
    if raw is not None:
        met = negatives.join(raw, left_on=["user", "items"], right_on=["user", "item"], how="semi")
        assert met.is_empty(), f"negative that was interacted with: {met.head(1).rows()}"


def _check_users(tables: Tables, again: list[str]) -> None:
    """Each user in one split; histories whole, in the order of time, the profile part first.

    An item is in a history once, or once for each value of the columns `again`.
    """
    users, interactions = tables.users, tables.interactions
    assert users["user"].is_unique().all()
    split = tables.lists.select("user", "split").unique().sort("user")
    assert split.equals(users.select("user", "split")), "a user's lists in another split"
    count = tables.lists.group_by("user").len().sort("user")
    assert count["len"].to_list() == users["lists"].to_list()
    assert interactions.select("user", "item", *again).is_unique().all()
    assert interactions.select("user", "position").equals(
        interactions.select("user", "position").sort("user", "position")
    )
    found = interactions.with_columns(
        place=pl.int_range(pl.len()).over("user"),
        step=pl.col("timestamp").diff().over("user"),
    ).join(users, on="user", how="left")
    assert found["split"].null_count() == 0, "interactions of a user without lists"
    assert (found["place"] == found["position"]).all()
    assert (found["step"].drop_nulls() >= 0).all(), "not in the order of time"
    profile = found["position"] < found["profile_interactions"]
    assert ((found["part"] == "profile") == profile).all()
