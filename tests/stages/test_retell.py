"""stages.retell on a small world: the same re-rankers, told another policy's texts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from rec import layout
from rec.comparison.intervals import ends, resampled_means
from rec.config import Evaluate, Params, Rerank
from rec.knowledge import vectors_table
from rec.mediation.links import Link, read_links
from rec.rerank.ranking import judge, user_table
from rec.rerank.reranker import load
from rec.tables import vectors_schema, write_table
from stages import inputs, rerank, retell
from tests.rerank.builders import DIMENSION, World, random_vectors, ranker, world
from tests.stages.small import params, write_inputs

SEEDS = [1, 2]
BACKBONES = ["dlcm", "prm"]


def settings() -> Params:
    return params(
        rerank=Rerank(backbones=BACKBONES, seeds=SEEDS),
        evaluate=Evaluate(bootstrap=200),
        ranker=ranker(epochs=8),
    )


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.runner.load_params", lambda path: settings())
    made = world(users=60, lists=3, samples=2, noise=0.5)
    write_inputs(made)
    for policy in ("0", "1"):  # what re-rankers are not told here
        write_table(random_vectors(made), layout.joint_vectors(policy), vectors_schema(DIMENSION))
    return made


@pytest.fixture
def trained(made: World) -> World:
    for backbone, seed in product(BACKBONES, SEEDS):
        assert invoke(rerank.main, "0", backbone, seed).exit_code == 0
    return made


def invoke(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)))


def write_policy(made: World, taste: dict[str, int]) -> None:
    """Texts of policy 1 that name these groups plainly."""
    keys = made.user_vectors["key"].to_list()
    plain = np.eye(DIMENSION)[[taste[key.removeprefix("user:")] for key in keys]]
    table = vectors_table(keys, made.user_vectors["sample"].to_list(), plain.astype(np.float16))
    write_table(table, layout.vectors("1"), vectors_schema(DIMENSION))


def links(made: World, taste: dict[str, int]) -> dict[str, Link]:
    write_policy(made, taste)
    result = invoke(retell.main, 1)
    assert (result.exit_code, result.output) == (0, "")
    return {link.name: link for link in read_links(layout.retold("1"))}


def test_plainer_texts_hold_and_wrong_ones_do_not(trained: World) -> None:
    made = trained
    found = links(made, made.tastes)
    assert list(found) == ["retold_test", "retold_valid"]
    assert found["retold_test"].chain and not found["retold_valid"].chain
    judged = made.lists.filter(pl.col("split") == "test", pl.col("labels").list.max() > 0)
    assert found["retold_test"].holds
    assert found["retold_test"].users == judged["user"].n_unique()
    wrong = links(made, {user: (group + 1) % 4 for user, group in made.tastes.items()})
    assert wrong["retold_test"].high is not None and wrong["retold_test"].high < 0


def test_value_is_the_difference_of_the_same_models(trained: World) -> None:
    found = links(trained, trained.tastes)["retold_test"]
    features = inputs.features(settings())
    rows = inputs.judged_rows(features)
    levels = {}
    for policy in ("0", "1"):
        knowledge = inputs.policy_knowledge(features, policy, "response")
        tables = [
            user_table(features, judge(load(path, "cpu"), features, knowledge, rows))
            for path in (layout.reranker("0", *names) for names in product(BACKBONES, SEEDS))
        ]
        test = pl.concat(tables).filter(pl.col("split") == "test")
        levels[policy] = test["ndcg@5"].to_numpy().reshape(len(BACKBONES), len(SEEDS), -1)
    gains = (levels["1"] - levels["0"]).mean(0)
    assert found.value == pytest.approx(100 * gains.mean(), abs=1e-4)
    low, high = ends(resampled_means(gains[:, :, None], 200, settings().seed))[:, 0]
    assert (found.low, found.high) == pytest.approx((100 * low, 100 * high), abs=1e-4)


def test_the_same_texts_are_worth_the_same(trained: World) -> None:
    write_table(trained.user_vectors, layout.vectors("1"), vectors_schema(DIMENSION))
    assert invoke(retell.main, 1).exit_code == 0
    assert all(
        (one.value, one.low, one.high) == (0, 0, 0) for one in read_links(layout.retold("1"))
    )


def test_a_missing_re_ranker_is_named(made: World) -> None:
    result = invoke(retell.main, 1)
    assert result.exit_code == 1 and "rerankers/0/dlcm-1" in result.output
    unknown = invoke(retell.main, 7)
    assert unknown.exit_code == 1 and "policy '7' does not exist" in unknown.output
    base = invoke(retell.main, 0)
    assert base.exit_code == 1 and "policy '0' is the base LLM" in base.output


def test_a_control_is_compared_with_the_base(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    links(trained, {user: (group + 1) % 4 for user, group in trained.tastes.items()})
    shutil.copytree(layout.knowledge("1"), layout.knowledge("sft"))
    assert links(trained, trained.tastes)["retold_test"].holds
    controlled = replace(settings(), policies=["0", "1", "sft"], fine_tuned=["sft"])
    monkeypatch.setattr("stages.runner.load_params", lambda path: controlled)
    assert invoke(retell.main, "sft").exit_code == 0
    found = read_links(layout.retold("sft"))[0]
    assert found.high is not None and found.high < 0


def test_a_later_round_asks_the_re_rankers_of_the_one_before(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(layout.knowledge("1"), layout.knowledge("2"))
    later = replace(settings(), policies=["0", "1", "2"], rounds={"1": "0", "2": "1"})
    monkeypatch.setattr("stages.runner.load_params", lambda path: later)
    result = invoke(retell.main, 2)
    assert result.exit_code == 1 and "rerankers/1/dlcm-1" in result.output
