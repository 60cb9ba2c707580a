from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rec.comparison.cells import cells, cells_of
from rec.errors import RecError
from tests.comparison.made import cells_table

RUNS = {
    "0": {
        ("dlcm", 1): {"a": 0.1, "b": 0.2},
        ("dlcm", 2): {"a": 0.3, "b": 0.4},
        ("prm", 1): {"b": 0.6, "a": 0.5},
        ("prm", 2): {"a": 0.7, "b": 0.8},
    },
    "popularity": {("", 0): {"a": 0.9, "b": 0.0}},
}


def test_cells_by_variant_backbone_seed_and_user() -> None:
    found = cells(cells_table(RUNS), "ndcg@5")
    assert found.variants == ["popularity", "base"]
    assert (found.backbones, found.seeds, found.users) == (["dlcm", "prm"], [1, 2], ["a", "b"])
    assert found.of("base", "prm").tolist() == [[0.5, 0.6], [0.7, 0.8]]
    assert found.of("base") == pytest.approx(np.array([[0.3, 0.4], [0.5, 0.6]]))
    assert found.table()[:, :, 1] == pytest.approx(found.of("base"))


def test_orders_are_the_same_with_every_backbone_and_seed() -> None:
    found = cells(cells_table(RUNS), "ndcg@5")
    for backbone in ("dlcm", "prm", None):
        assert found.of("popularity", backbone).tolist() == [[0.9, 0.0], [0.9, 0.0]]


def test_cells_of_several_metrics_are_those_of_each() -> None:
    table = cells_table(RUNS).with_columns((1 - pl.col("ndcg@5")).alias("map@5"))
    both = cells_of(table, ["map@5", "ndcg@5"])
    assert list(both) == ["map@5", "ndcg@5"]
    assert both["map@5"].of("base", "prm") == pytest.approx(np.array([[0.5, 0.4], [0.3, 0.2]]))
    assert both["map@5"].of("popularity").tolist() == [pytest.approx([0.1, 1.0])] * 2
    assert both["ndcg@5"].of("base", "prm").tolist() == [[0.5, 0.6], [0.7, 0.8]]


def test_cells_of_some_users() -> None:
    found = cells(cells_table(RUNS), "ndcg@5").among({"b", "c"})
    assert found.users == ["b"] and found.of("base", "dlcm").tolist() == [[0.2], [0.4]]


@pytest.mark.parametrize("lacking", [("prm", 2), ("dlcm", 1)])
def test_a_lacking_run_is_refused(lacking: tuple[str, int]) -> None:
    none = {key: value for key, value in RUNS["0"].items() if key != lacking}
    with pytest.raises(RecError, match="'none' lacks a backbone, a seed or a user"):
        cells(cells_table(RUNS | {"none": none}), "ndcg@5")
