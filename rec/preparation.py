"""From the relations of a reader to the tables of all later stages, in memory that has a limit.

Cleaned ratings are brought together by ranges of users (`rec.ranges`); the core, the split and the
popularity of items need only counts over all ranges; then each range is ordered, cut into lists and
written by itself.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl

from rec.cleaning import Rejects, clean_items, judge_ratings, require_good, unreadable
from rec.config import Data, Prepare, protocols
from rec.core import degrees, k_core
from rec.database import connect
from rec.datasets import Source, read
from rec.errors import RecError
from rec.impressions import check_impressions, shown_items, shown_per_user, split_shown
from rec.interactions import choose_users, require_splits, split_users
from rec.lists import build_ranker
from rec.range_tables import Kept, Worker
from rec.ranges import Ranges, build_ranges
from rec.tables import ITEMS, TablePaths, write_table
from rec.written import Written, write_ranges

Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


def prepare_data(
    data: Data,
    prepare: Prepare,
    seed: int,
    paths: TablePaths,
    work: Path,
    memory_limit: str = "",
    threads: int | None = None,
) -> tuple[dict[str, Any], Rejects]:
    """Read a data set and write its tables; their counts, and what was left out.

    What does not fit `memory_limit` (see `rec.database.connect`) goes into `work` until the end.
    Raises RecError as `rec.datasets.read` and `prepare_tables` do.
    """
    shutil.rmtree(work, ignore_errors=True)  # what a killed run left
    work.mkdir(parents=True)
    try:
        with connect(work, memory_limit, threads) as connection:
            read(Source(Path(data.path), work, data, connection))
            return prepare_tables(connection, paths, work, data, prepare, seed)
    finally:
        shutil.rmtree(work)


def prepare_tables(
    connection: duckdb.DuckDBPyConnection,
    paths: TablePaths,
    work: Path,
    data: Data,
    prepare: Prepare,
    seed: int,
) -> tuple[dict[str, Any], Rejects]:
    """Clean, order, split, build lists and write the tables; their counts, and what was left out.

    The connection holds what a reader left there (`rec.datasets`). `paths.further` has a place for
    each protocol but the first (`rec.config.protocols`); the counts hold for all of them. Raises
    RecError where too many rows are faulty, or where no list, or no user of a split, is left.
    """
    rejects = Rejects()
    unreadable(connection, rejects)
    read = {"ratings": sum(rejects.of("ratings").values())}
    log = bool(data.tabular.impressions.file)
    items = clean_items(connection, rejects, shown=log)
    judge_ratings(connection, data, items)
    shown_rows, candidates = None, np.zeros(len(items), dtype=np.bool_)
    if log:
        read["impressions"] = check_impressions(connection, data, rejects)
        shown_rows, candidates = shown_per_user(connection), shown_items(connection, len(items))
    ranges, judged = build_ranges(connection, data, work / "ranges", rejects, shown_rows)
    read["ratings"] += judged
    for relation in sorted(read):  # impressions first: their clicks may be the ratings
        require_good(data, rejects, relation, read[relation])
    kept = keep(ranges, candidates, prepare, seed)
    items = items.filter(pl.Series(kept.items))
    ranker = build_ranker(items["item"], kept.popularity, prepare, seed)
    shown = split_shown(connection, ranges.users, ranges.starts, work / "shown") if log else None
    worker = Worker(ranges, kept, items["item"], ranker, prepare, data.positive_rating, seed, shown)
    names = protocols(data, prepare)
    written = write_ranges(worker, paths, names)
    popularity, rank = pl.Series(kept.popularity), pl.Series(ranker.rank)
    write_table(items.with_columns(popularity=popularity, rank=rank), paths.items, ITEMS)
    counts = {"items": len(items), **written.counts(), "protocols": names}
    return {**read, **counts, "dropped": _dropped(rejects, kept, written, log)}, rejects


def _dropped(rejects: Rejects, kept: Kept, written: Written, log: bool) -> dict[str, Any]:
    """What was left out, by relation and reason; `log`: whether lists were shown."""
    without = int(kept.users.sum()) - written.users.total()
    dropped = {
        "ratings": rejects.of("ratings"),
        "items": rejects.of("items"),
        "users": {**kept.dropped, "without a list": without},
        "lists": dict(written.dropped),
    }
    if log:
        dropped |= {"impressions": rejects.of("impressions"), "shown items": dict(written.left_out)}
    return dropped


def keep(ranges: Ranges, candidates: Booleans, prepare: Prepare, seed: int) -> Kept:
    """The k-core, the choice of users and their split. Raises RecError where a split is empty.

    `candidates` [items] are shown in lists, so that they are kept whatever their interactions.
    """
    core, kept_items = k_core(
        lambda: _usable(ranges),
        len(ranges.users),
        len(candidates),
        prepare.minimum_interactions,
        prepare.minimum_item_interactions,
    )
    kept_items |= candidates
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
