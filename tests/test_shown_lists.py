"""Lists as shown, from a shop's files to the tables."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from rec.config import Data, Impressions, Prepare, Tabular
from rec.datasets import Source, read
from tests.leaks import check_leaks
from tests.prepared import DATA, PREPARE, Prepared, prepare_filled

KNOBS = replace(PREPARE, list_size=5, profile_interactions=5)


def log(users: int = 60) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What a shop showed, and what was bought: half of the items are never clicked."""
    draw = random.Random(3)
    shown, bought = [], []
    for user in range(users):
        time = draw.randrange(1, 50)
        for number in range(12):
            time += draw.randrange(0, 5)
            for place, item in enumerate(draw.sample(range(120), draw.randrange(1, 7))):
                clicked = int(item < 60 and draw.random() < 0.4)
                row = (f"s{user}-{number}", f"u{user}", f"i{item:03}", place, clicked, time)
                shown.append(row)
                if clicked and draw.random() < 0.8:
                    later = time + draw.randrange(0, 3)
                    bought.append((f"u{user}", f"i{item:03}", draw.choice([1, 5]), later))
    columns = ["list", "user", "item", "position", "clicked", "timestamp"]
    return (
        pl.DataFrame(shown, schema=columns, orient="row"),
        pl.DataFrame(bought, schema=["user", "item", "rating", "timestamp"], orient="row"),
    )


def shop(folder: Path, orders: bool, clock: bool) -> Data:
    """The log as a data set, with orders or clicks as interactions, with times or without."""
    folder.mkdir()
    shown, bought = log()
    shown.write_parquet(folder / "log.parquet")
    if orders:
        bought.write_csv(folder / "orders.csv")
    time = "timestamp" if clock else ""
    tabular = Tabular(
        interactions="orders.csv" if orders else "",
        title="",
        timestamp=time,
        impressions=Impressions(file="log.parquet", timestamp=time),
    )
    return replace(DATA, reader="tabular", path=str(folder), tabular=tabular)


def prepared(data: Data, knobs: Prepare = KNOBS) -> Prepared:
    """The tables of a data set."""
    return prepare_filled(
        lambda connection, work: read(Source(Path(data.path), work, data, connection)), knobs, data
    )


@pytest.mark.parametrize(("orders", "clock"), [(False, True), (False, False), (True, True)])
def test_lists_are_those_that_were_shown(tmp_path: Path, orders: bool, clock: bool) -> None:
    data = shop(tmp_path / "shop", orders, clock)
    tables = prepared(data)
    shown, _ = log()
    time = "timestamp" if clock else pl.int_range(1, pl.len() + 1).alias("timestamp")
    published = shown.select("list", "item", label="clicked").with_columns(shown.select(time))
    check_leaks(tables, KNOBS, data, published=published)
    assert len(tables.items) == 120, "an item that nobody clicked is a candidate all the same"
    places = {row[:2]: row[2] for row in shown.select("list", "item", "position").rows()}
    for name, items in tables.lists.select("list", "items").iter_rows():
        found = [places[name, item] for item in items]
        assert found == sorted(found)
    dropped = tables.summary["dropped"]
    assert len(tables.lists) + sum(dropped["lists"].values()) == shown["list"].n_unique()
    assert tables.summary["impressions"] == len(shown)
    lost = dropped["shown items"]["beyond prepare.list_size"]
    assert lost > 0 and tables.lists["items"].list.len().max() == KNOBS.list_size


def test_histories_hold_what_is_taken_again_later(tmp_path: Path) -> None:
    """Else an item of a list would be known to be left by standing in the history."""
    tables = prepared(shop(tmp_path / "shop", orders=False, clock=True))
    shown, _ = log()
    clicks = shown.filter(pl.col("clicked") == 1).unique(["user", "item", "timestamp"])
    times = shown.group_by("list").agg(pl.col("timestamp").min().alias("time"))
    lists = tables.lists.join(times, on="list")
    before = (
        lists.select("list", "user", "time")
        .join(clicks.select("user", "timestamp"), on="user")
        .filter(pl.col("timestamp") < pl.col("time"))
        .group_by("list")
        .len()
    )
    assert (
        lists.join(before, on="list").select(pl.col("position") == pl.col("len")).to_series().all()
    )
    again = clicks.group_by("user", "item").len().filter(pl.col("len") > 1)
    assert len(again) > 10


def test_lists_of_users_who_are_not_kept_are_counted(tmp_path: Path) -> None:
    data = shop(tmp_path / "shop", orders=False, clock=True)
    kept = prepared(data).summary["dropped"]["lists"]["user not kept"]
    dropped = prepared(data, replace(KNOBS, users=30)).summary["dropped"]["lists"]
    assert dropped["user not kept"] == kept + 30 * 12


def test_size_of_ranges_changes_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shop(tmp_path / "shop", orders=False, clock=True)
    whole = prepared(data)
    monkeypatch.setattr("rec.ranges.ROWS", 300)
    assert prepared(data).content() == whole.content()


def test_protocols_of_drawn_negatives_do_not_matter(tmp_path: Path) -> None:
    """What was shown is what is re-ranked: there is one set of lists, of the protocol `shown`."""
    data = shop(tmp_path / "shop", True, True)
    one, both = (
        prepared(data, replace(KNOBS, negatives=protocols))
        for protocols in (["popularity"], ["uniform", "popularity"])
    )
    assert both.files == one.files and both.summary == one.summary
    assert both.further == {} and both.summary["protocols"] == ["shown"]


def test_popularity_is_another_order_than_that_shown(tmp_path: Path) -> None:
    tables = prepared(shop(tmp_path / "shop", orders=False, clock=True))
    rank = dict(tables.items.select("item", "rank").iter_rows())
    ranks = [[rank[item] for item in items] for items in tables.lists["items"]]
    assert any(found != sorted(found) for found in ranks)
