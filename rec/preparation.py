"""From the relations of a reader to the tables of all later stages, in memory that has a limit.

Cleaned ratings are brought together by ranges of users (`rec.ranges`); the core, the split and the
popularity of items need only counts over all ranges; then each range is ordered, cut into lists and
written by itself.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl

from rec.cleaning import Rejects, clean_items, judge_ratings, require_good, unreadable
from rec.config import Data, Prepare
from rec.core import degrees, k_core
from rec.database import connect
from rec.datasets import Source, read
from rec.errors import RecError
from rec.files import write_json
from rec.interactions import SPLITS, choose_users, require_splits, split_users
from rec.lists import build_ranker
from rec.progress import bar
from rec.range_tables import Histories, Kept, Worker
from rec.ranges import Ranges, build_ranges
from rec.tables import INTERACTIONS, ITEMS, LISTS, REJECTS, USERS, table_writer, write_table

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Paths:
    """Where the tables go."""

    interactions: Path
    items: Path
    users: Path
    lists: Path


def prepare_data(
    data: Data,
    prepare: Prepare,
    seed: int,
    folder: Path,
    work: Path,
    memory_limit: str = "",
    threads: int | None = None,
) -> None:
    """Read a data set and write its tables, what was left out and the counts into `folder`.

    What does not fit `memory_limit` (see `rec.database.connect`) goes into `work` until the end.
    Raises RecError as `rec.datasets.read` and `prepare_tables` do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)  # what a killed run left
    work.mkdir(parents=True)
    try:
        with connect(work, memory_limit, threads) as connection:
            read(Source(Path(data.path), work, data, connection))
            names = ("interactions", "items", "users", "lists")
            paths = Paths(*(folder / f"{name}.parquet" for name in names))
            summary, rejects = prepare_tables(connection, paths, work, data, prepare, seed)
    finally:
        shutil.rmtree(work)
    write_table(rejects.table(), folder / "rejects.parquet", REJECTS)
    write_json(folder / "prepare.json", summary)


def prepare_tables(
    connection: duckdb.DuckDBPyConnection,
    paths: Paths,
    work: Path,
    data: Data,
    prepare: Prepare,
    seed: int,
) -> tuple[dict[str, Any], Rejects]:
    """Clean, order, split, build lists and write the tables; their counts, and what was left out.

    The connection holds what a reader left there (`rec.datasets`). Raises RecError where too many
    rows are faulty, or where no list, or no user of a split, is left.
    """
    rejects = Rejects()
    unreadable(connection, rejects)
    items = clean_items(connection, rejects)
    unread = sum(rejects.of("ratings").values())
    judge_ratings(connection, data, items)
    ranges, read = build_ranges(connection, data, work / "ranges", rejects)
    read += unread
    require_good(data, rejects, "ratings", read)
    kept = keep(ranges, len(items), prepare, seed)
    items = items.filter(pl.Series(kept.items))
    ranker = build_ranker(items["item"], kept.popularity, prepare, seed)
    worker = Worker(ranges, kept, items["item"], ranker, prepare, data.positive_rating, seed)
    written = write_ranges(worker, paths)
    popularity, rank = pl.Series(kept.popularity), pl.Series(ranker.rank)
    write_table(items.with_columns(popularity=popularity, rank=rank), paths.items, ITEMS)
    summary = {"ratings": read, "items": len(items), **written.counts()}
    dropped = {
        "ratings": rejects.of("ratings"),
        "items": rejects.of("items"),
        "users": {**kept.dropped, "without a list": int(kept.users.sum()) - written.users.total()},
        "lists": dict(written.dropped),
    }
    return {**summary, "dropped": dropped}, rejects


def keep(ranges: Ranges, items: int, prepare: Prepare, seed: int) -> Kept:
    """The k-core, the choice of users and their split. Raises RecError where a split is empty."""
    core, kept_items = k_core(
        lambda: _usable(ranges),
        len(ranges.users),
        items,
        prepare.minimum_interactions,
        prepare.minimum_item_interactions,
    )
    enough = ranges.users.filter(pl.Series(core))
    if not len(enough):
        raise RecError(
            f"none of {len(ranges.users)} users has {prepare.minimum_interactions} interactions;"
            " lower prepare.minimum_interactions or prepare.minimum_item_interactions"
        )
    chosen = choose_users(enough, prepare.users, seed)
    split = pl.DataFrame({"user": chosen, "split": split_users(chosen, prepare, seed)})
    require_splits(Counter(split["split"]))
    splits = (
        ranges.users.to_frame("user")
        .join(split, on="user", how="left", maintain_order="left")
        .get_column("split")
    )
    train = (splits == "train").fill_null(False).to_numpy()
    _, popularity = degrees(lambda: _usable(ranges), train, kept_items)
    return Kept(
        users=splits.is_not_null().to_numpy(),
        splits=splits,
        items=kept_items,
        popularity=popularity[kept_items],
        dropped={
            "too few interactions": len(ranges.users) - len(enough),
            "not among prepare.users": len(enough) - len(chosen),
        },
    )


def _usable(ranges: Ranges) -> Iterator[tuple[Integers, Integers]]:
    for number in range(len(ranges)):
        pairs = ranges.pairs(number).filter("usable")
        yield pairs["user"].to_numpy() + np.int64(ranges.starts[number]), pairs["item"].to_numpy()


class Written:
    """What was written, counted."""

    def __init__(self) -> None:
        self.users: Counter[str] = Counter()  # by split
        self.lists: Counter[str] = Counter()  # by split
        self.dropped: Counter[str] = Counter()  # lists by reason
        self.interactions = self.positives = self.full = 0

    def add(self, histories: Histories, lists: pl.DataFrame, own: int) -> None:
        """Count a range; `own` are the user's own items of a list."""
        self.users.update(dict(histories.users["split"].value_counts().iter_rows()))
        self.lists.update(dict(lists["split"].value_counts().iter_rows()))
        self.dropped.update(histories.dropped)
        self.interactions += len(histories.interactions)
        positives = lists["labels"].list.sum()
        self.positives += int(positives.sum())
        self.full += int((positives == own).sum())

    def counts(self) -> dict[str, Any]:
        """The counts by name."""
        return {
            "interactions": self.interactions,
            "users": {split: self.users[split] for split in SPLITS},
            "lists": {split: self.lists[split] for split in SPLITS},
            "positives_per_list": round(self.positives / self.lists.total(), 4),
            "lists_with_all_own_positive": self.full,
        }


def write_ranges(worker: Worker, paths: Paths) -> Written:
    """Write the tables range by range, one writing beside the work on the next.

    Raises RecError where no list, or split, is left.
    """
    written = Written()
    count = len(worker.ranges)
    with (
        table_writer(paths.interactions, INTERACTIONS) as interactions,
        table_writer(paths.users, USERS) as users,
        table_writer(paths.lists, LISTS) as lists,
        ThreadPoolExecutor(1) as writing,
        bar("lists", count, "range") as progress,
    ):
        under_way: list[Future[None]] = []
        for number in range(count):
            histories = worker.histories(number)
            under_way.append(writing.submit(interactions, histories.interactions))
            under_way.append(writing.submit(users, histories.users))
            found = worker.lists(histories)
            while under_way:
                under_way.pop().result()
            under_way.append(writing.submit(lists, found))
            written.add(histories, found, worker.prepare.list_interactions)
            progress.update()
        for last in under_way:
            last.result()
        _require_lists(written)
    return written


def _require_lists(written: Written) -> None:
    if not written.lists.total():
        reasons = ", ".join(f"{reason} {count}" for reason, count in written.dropped.items())
        raise RecError(
            f"no list is left ({reasons}); check data.positive_rating, prepare.list_interactions,"
            " prepare.profile_interactions and prepare.list_size"
        )
    require_splits(written.users)
