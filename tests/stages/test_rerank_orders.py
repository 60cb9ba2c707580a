"""stages.rerank_orders on a small world: lists as no re-ranker has ranked them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from rec import layout
from rec.config import ORDERS
from rec.rerank.metrics import ranked_ndcg
from rec.tables import NO_BACKBONE, NO_SAMPLE, NO_SEED, RUNS, read_table
from stages import rerank_orders
from tests.rerank.builders import World, world
from tests.stages.small import PROTOCOLS, judged_lists, params, write_inputs


@pytest.fixture(scope="module")
def made() -> World:
    return world(users=60, lists=4)


@pytest.fixture(autouse=True)
def place(made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(made)


def run(monkeypatch: pytest.MonkeyPatch, orders: list[str], seed: int = 3) -> pl.DataFrame:
    found = params(orders=orders, seed=seed)
    monkeypatch.setattr("stages.runner.load_params", lambda path: found)
    result = CliRunner().invoke(rerank_orders.main, [])
    assert (result.exit_code, result.output) == (0, "")
    return read_table(layout.ORDER_RUNS, RUNS)


def test_every_order_of_every_protocol(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = run(monkeypatch, list(ORDERS))
    expected = judged_lists(made)
    keys = [
        (order, protocol, name)
        for order in sorted(ORDERS)
        for protocol in PROTOCOLS
        for name in sorted(expected)
    ]
    assert runs.select("variant", "protocol", "list").rows() == keys
    marks = runs.select("backbone", "seed", "sample").unique().rows()
    assert marks == [(NO_BACKBONE, NO_SEED, NO_SAMPLE)]
    splits = dict(made.prompts.select("user", "split").iter_rows())
    assert all(splits[user] == split for user, split in runs.select("user", "split").iter_rows())
    for protocol, size in zip(PROTOCOLS, (6, 7), strict=True):
        for name, labels in runs.filter(protocol=protocol).select("list", "labels").iter_rows():
            assert len(labels) == size and sum(labels) == sum(expected[name])


def test_shown_is_the_table_itself(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = run(monkeypatch, ["shown", "random"]).filter(variant="shown", protocol=PROTOCOLS[0])
    assert dict(runs.select("list", "labels").iter_rows()) == judged_lists(made)


def test_the_items_of_this_world_are_as_good_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """Popularity tells nothing here, so that both orders are worth the same, and differ."""
    runs = run(monkeypatch, ["popularity", "random"]).filter(protocol=PROTOCOLS[0])
    tables = [runs.filter(variant=order)["labels"].to_list() for order in ("popularity", "random")]
    assert tables[0] != tables[1]
    popularity, random = (ranked_ndcg(labels, 5).mean() for labels in tables)
    assert popularity == pytest.approx(random, abs=0.12)


def test_random_is_told_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(monkeypatch, ["random"])
    content = layout.ORDER_RUNS.read_bytes()
    run(monkeypatch, ["random"])
    assert layout.ORDER_RUNS.read_bytes() == content
    assert not run(monkeypatch, ["random"], seed=4).equals(first)


def test_only_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(run(monkeypatch, ["popularity"])["variant"]) == {"popularity"}
