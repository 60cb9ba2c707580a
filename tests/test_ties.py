"""bench.ties: whether the order of interactions of one time tells what comes next."""

from __future__ import annotations

from pathlib import Path
from random import Random

import polars as pl
import pytest

from bench.ties import cells, figures
from rec.tables import INTERACTIONS, LISTS, write_table

IDS = [f"i{number:02}" for number in range(60)]


def write(folder: Path, by_id: bool, time: int = 0) -> None:
    """300 users with 20 items of one time (the others `time` later each), and a list of each."""
    random = Random(7)
    taken: list[tuple[object, ...]] = []
    lists: list[tuple[object, ...]] = []
    for number in range(300):
        user, own = f"u{number}", random.sample(IDS, 20)
        if by_id:
            own.sort()
        taken += [(user, item, 5.0, place * time, place, "list") for place, item in enumerate(own)]
        items = [*random.sample(sorted(set(IDS) - set(own)), 9), own[10]]
        random.shuffle(items)
        labels = [int(item == own[10]) for item in items]
        lists.append((f"{user}-0", user, "test", 10, items, labels))
    for name, rows, schema in (("interactions", taken, INTERACTIONS), ("lists", lists, LISTS)):
        table = pl.DataFrame(rows, schema=schema, orient="row")
        write_table(table, folder / f"{name}.parquet", schema)


def test_an_order_by_id_tells_what_comes_next(tmp_path: Path) -> None:
    write(tmp_path, by_id=True)
    found = figures(cells(tmp_path))
    assert found["lists_tied"] == 1.0 and found["positives_after_the_last"] == 1.0
    assert found["negatives_after_the_last"] == pytest.approx(0.5, abs=0.05)
    assert found["ndcg@5_tied"] == found["ndcg@5"] and found["ndcg@5"]["rule"] > 0.7


def test_a_drawn_order_does_not(tmp_path: Path) -> None:
    write(tmp_path, by_id=False)
    found = figures(cells(tmp_path))
    after = found["positives_after_the_last"]
    assert after == pytest.approx(found["negatives_after_the_last"], abs=0.1)
    assert found["ndcg@5"]["rule"] == pytest.approx(0.295, abs=0.06)


def test_other_times_are_no_ties(tmp_path: Path) -> None:
    write(tmp_path, by_id=True, time=5)
    found = figures(cells(tmp_path))
    assert found["lists_tied"] == 0.0 and found["positives_after_the_last"] is None
    assert found["ndcg@5_tied"] == {"rule": None, "popularity": None}
