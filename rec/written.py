"""Writing the tables of the ranges, and counting what is in them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import polars as pl

from rec.errors import RecError
from rec.interactions import SPLITS, require_splits
from rec.progress import bar
from rec.range_tables import Part, Worker
from rec.shown import NO_INTERACTIONS
from rec.tables import INTERACTIONS, LISTS, USERS, TablePaths, table_writer


class Written:
    """What was written, counted."""

    def __init__(self) -> None:
        self.users: Counter[str] = Counter()  # by split
        self.lists: Counter[str] = Counter()  # by split
        self.dropped: Counter[str] = Counter()  # lists by reason
        self.left_out: Counter[str] = Counter()  # items of shown lists by reason
        self.interactions = self.tied = self.positives = 0

    def add(self, part: Part) -> None:
        """Count a range but for its lists."""
        self.users.update(dict(part.users["split"].value_counts().iter_rows()))
        self.dropped.update(part.lists.dropped)
        self.left_out.update(part.lists.left_out)
        self.interactions += len(part.interactions)
        self.tied += part.tied

    def add_lists(self, lists: pl.DataFrame) -> None:
        """Count lists."""
        self.lists.update(dict(lists["split"].value_counts().iter_rows()))
        self.positives += int(lists["labels"].list.sum().sum())

    def counts(self) -> dict[str, Any]:
        """The counts by name."""
        return {
            "interactions": self.interactions,
            "tied": self.tied,
            "users": {split: self.users[split] for split in SPLITS},
            "lists": {split: self.lists[split] for split in SPLITS},
            "positives_per_list": round(self.positives / self.lists.total(), 4),
        }


def write_ranges(worker: Worker, paths: TablePaths, protocols: Sequence[str]) -> Written:
    """Write the tables range by range, each table beside the work on the next.

    Of the lists, those of the first protocol are counted: the others hold as many. Raises RecError
    where no list, or split, is left.
    """
    written = Written()
    count = len(worker.ranges)
    with (
        ExitStack() as stack,
        table_writer(paths.interactions, INTERACTIONS) as interactions,
        table_writer(paths.users, USERS) as users,
        Behind() as behind,
        bar("lists", count, "range") as progress,
    ):
        lists = {
            protocol: stack.enter_context(table_writer(path, LISTS))
            for protocol, path in paths.of_protocols(protocols).items()
        }
        for number in range(count):
            part = worker.part(number)
            written.add(part)
            behind.do(interactions, part.interactions)
            behind.do(users, part.users)
            for protocol, table in part.lists.tables:
                if protocol == protocols[0]:
                    written.add_lists(table)
                behind.do(lists[protocol], table)
            progress.update()
        if worker.shown:
            written.dropped[NO_INTERACTIONS] += worker.shown.unknown
        _require_lists(written)
    return written


class Behind:
    """Does one thing after the other in a thread, and lets at most a few wait."""

    WAITING = 3

    def __enter__(self) -> Behind:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()
        return self

    def do(self, write: Callable[[pl.DataFrame], None], table: pl.DataFrame) -> None:
        """Write a table behind those that wait. Raises what an earlier one raised."""
        self._waiting.append(self._pool.submit(write, table))
        while len(self._waiting) > self.WAITING:
            self._waiting.popleft().result()

    def __exit__(self, *_: object) -> None:
        with self._pool:
            for write in self._waiting:
                write.result()


def _require_lists(written: Written) -> None:
    if not written.lists.total():
        reasons = ", ".join(f"{reason} {count}" for reason, count in written.dropped.items())
        raise RecError(
            f"no list is left ({reasons}); check data.positive_rating, prepare.list_interactions,"
            " prepare.profile_interactions and prepare.list_size"
        )
    require_splits(written.users)
