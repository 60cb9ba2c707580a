from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rec.params import load_params
from stages import inputs, rerank
from tests.rerank.builders import world
from tests.synthetic_run import params_file


@pytest.mark.parametrize("variant", ["shown", "popularity"])
def test_an_order_is_judged_on_the_test_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    made = world(users=20)
    monkeypatch.setattr(inputs, "features", lambda params: made.features())
    runs, curve = rerank.run(load_params(params_file(tmp_path)), variant, 0)
    assert curve == {}
    assert runs["variant"].unique().to_list() == [variant]
    test = made.lists.filter(pl.col("split") == "test")["user"]
    assert set(runs["user"]) <= set(test)


def test_both_orders_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "features", lambda params: world(users=20).features())
    params = load_params(params_file(tmp_path))
    shown, popularity = (rerank.run(params, variant, 0)[0] for variant in ("shown", "popularity"))
    assert shown.select("list", "user").equals(popularity.select("list", "user"))
    assert not shown["ndcg@5"].equals(popularity["ndcg@5"])
