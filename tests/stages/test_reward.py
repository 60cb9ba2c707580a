"""stages.reward and stages.score on a small world: cross-fitted models, and who they score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from rec import layout
from rec.config import BACKBONES, Params
from rec.files import read_json
from rec.reward import fold_of, load_models, score_fold
from rec.tables import ALL_FOLDS, SCORES, read_table
from stages import inputs, reward, score
from tests.rerank.builders import World, world
from tests.stages import small
from tests.stages.small import SEED, params, write_inputs


@pytest.fixture(scope="module")
def made() -> World:
    return world(users=40, lists=3, samples=2)


@pytest.fixture(autouse=True)
def place(made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(made)


def run(monkeypatch: pytest.MonkeyPatch, found: Params, round_: int = 1) -> pl.DataFrame:
    monkeypatch.setattr("stages.runner.load_params", lambda path: found)
    for main in (reward.main, score.main):
        result = CliRunner().invoke(main, [str(round_)])
        assert (result.exit_code, result.output) == (0, "")
    return read_table(layout.scores(round_), SCORES)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_fold_has_a_model_of_the_backbone(
    monkeypatch: pytest.MonkeyPatch, backbone: str
) -> None:
    found = params(reward=small.reward(backbone, text="both"))
    scores = run(monkeypatch, found)
    models = load_models(layout.reward(1))
    assert [model.fold for model in models] == [0, 1]
    assert {model.model.backbone for model in models} == {backbone}
    assert {model.model.shape.texts for model in models} == {2}
    described = read_json(layout.reward(1) / "reward.json")
    assert (described["policy"], described["folds"], described["seed"]) == ("0", 2, SEED)
    assert [model["fold"] for model in described["models"]] == [0, 1]
    built = inputs.features(found)
    knowledge = inputs.policy_knowledge(built, "0", found.reward.text)
    again = pl.concat([score_fold(model, built, knowledge) for model in models])
    train = scores.filter(pl.col("fold") != ALL_FOLDS).sort("user", "sample")
    assert again.sort("user", "sample").equals(train)


def test_the_reward_is_the_mean_of_a_folds_models(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run(monkeypatch, params(reward=small.reward("prm")))
    first = [model.model.state_dict() for model in load_models(layout.reward(1))]
    found = params(reward=small.reward("prm", models=2))
    scores = run(monkeypatch, found)
    models = load_models(layout.reward(1))
    assert [model.fold for model in models] == [0, 0, 1, 1]
    described = read_json(layout.reward(1) / "reward.json")
    numbers = [(model["fold"], model["model"]) for model in described["models"]]
    assert numbers == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for before, same in zip(first, models[::2], strict=True):
        assert all(value.equal(same.model.state_dict()[name]) for name, value in before.items())
    built = inputs.features(found)
    knowledge = inputs.policy_knowledge(built, "0", found.reward.text)
    tables = [score_fold(model, built, knowledge) for model in models if model.fold == 1]
    assert not tables[0].equals(tables[1])
    own = scores.filter(fold=1)
    mean = (tables[0]["log_likelihood"] + tables[1]["log_likelihood"]) / 2
    np.testing.assert_allclose(own["log_likelihood"], mean)
    assert own.select("user", "sample").equals(alone.filter(fold=1).select("user", "sample"))


def test_the_reward_does_not_read_what_re_rankers_read(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(monkeypatch, params("response"))
    assert run(monkeypatch, params("joint")).equals(first)
    joint = run(monkeypatch, params(reward=small.reward("dlcm", text="joint")))
    assert joint["sample"].to_list() != first["sample"].to_list()  # of other vectors


def test_who_is_scored_by_whom(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = run(monkeypatch, params())
    splits = dict(made.prompts.select("user", "split").iter_rows())
    assert {splits[user] for user in scores["user"]} == {"train", "valid"}
    for user, fold in scores.select("user", "fold").iter_rows():
        assert fold == (fold_of(SEED, user, 2) if splits[user] == "train" else ALL_FOLDS)
    likes = made.lists.filter(pl.col("labels").list.max() > 0, pl.col("split") != "test")
    assert set(scores["user"]) == set(likes["user"])
    assert scores["sample"].to_list() == [0, 1] * (scores.height // 2)


def test_the_lists_of_other_protocols_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = run(monkeypatch, params())
    layout.protocol_lists("uniform").unlink()
    assert run(monkeypatch, params()).equals(scores)


def failed(result: Result) -> str:
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    return result.output


@pytest.mark.parametrize("stage", [reward, score])
def test_a_round_that_is_not_there(monkeypatch: pytest.MonkeyPatch, stage: object) -> None:
    monkeypatch.setattr("stages.runner.load_params", lambda path: params())
    output = failed(CliRunner().invoke(stage.main, ["2"]))  # type: ignore[attr-defined]
    assert "round 2 does not exist; params.yaml has rounds 1" in output


def test_a_run_that_fails_leaves_no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.runner.load_params", lambda path: params())
    layout.vectors("0").unlink()
    output = failed(CliRunner().invoke(reward.main, ["1"]))
    assert f"{layout.vectors('0')}: no such file" in output
    assert not layout.reward(1).exists()
    assert "reward.json: no such file" in failed(CliRunner().invoke(score.main, ["1"]))
