"""stages.score and stages.pairs on a small world: who is scored by whom, who becomes a pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from omegaconf import OmegaConf

from rec import layout
from rec.files import read_json, write_json
from rec.rerank.reranker import save
from rec.reward import describe, fold_of, train_fold, weights_path
from rec.tables import (
    ALL_FOLDS,
    INTERACTIONS,
    ITEMS,
    LISTS,
    PAIRS,
    PROMPTS,
    RESPONSES,
    SCORES,
    read_table,
    vectors_schema,
    write_table,
)
from stages import pairs, score
from tests.rerank.builders import DIMENSION, World, ranker, world
from tests.synthetic_run import params_file

FOLDS, SEED = 2, 3


def responses_table(made: World) -> pl.DataFrame:
    """A text of its own for each vector of a user."""
    filled = {
        "text": pl.format("Loved films: {} {}", "key", "sample"),
        "token_ids": pl.lit([1, 2, 3], dtype=pl.List(pl.Int32)),
        "prompt_tokens": pl.lit(5, dtype=pl.Int32),
        "response_tokens": pl.lit(3, dtype=pl.Int32),
        "finish_reason": pl.lit("stop"),
        "cut_slots": pl.lit(0, dtype=pl.Int32),
        "empty_slots": pl.lit(0, dtype=pl.Int32),
        "looping": pl.lit(False),
        "seed": pl.lit(1, dtype=pl.Int64),
    }
    return made.user_vectors.select("key", "sample", **filled)


def write_inputs(made: World) -> None:
    """Everything that the two stages read in round 1, two reward models among it."""
    write_table(made.items, layout.ITEMS, ITEMS)
    write_table(made.interactions, layout.INTERACTIONS, INTERACTIONS)
    write_table(made.lists, layout.LISTS, LISTS)
    write_json(layout.PREPARED, {"protocols": ["popularity"]})
    write_table(made.prompts, layout.PROMPTS, PROMPTS)
    write_table(made.item_vectors, layout.ITEM_VECTORS, vectors_schema(DIMENSION))
    write_table(made.user_vectors, layout.vectors("0"), vectors_schema(DIMENSION))
    write_table(responses_table(made), layout.responses("0"), RESPONSES)
    features = made.features()
    knowledge = made.knowledge(features)
    layout.reward(1).mkdir(parents=True)
    for fold in range(FOLDS):
        reward, _ = train_fold(features, knowledge, ranker(epochs=3), "prm", SEED, fold, FOLDS)
        save(reward.model, weights_path(layout.reward(1), fold))
    write_json(layout.reward(1) / "reward.json", describe(SEED, FOLDS, 1, []))


def run(tmp_path: Path, made: World) -> World:
    """Run both stages of round 1."""
    write_inputs(made)
    path = params_file(tmp_path)
    values = OmegaConf.load(path)
    values.machine.threads = 1
    values.pairs.maximum = 4
    OmegaConf.save(values, path)
    for main in (score.main, pairs.main):
        result = CliRunner().invoke(main, ["1"])
        assert (result.exit_code, result.output) == (0, "")
    return made


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_train_users_are_paired_and_validation_users_held_out(tmp_path: Path) -> None:
    made = run(tmp_path, world(users=50, samples=3))
    splits = dict(made.prompts.select("user", "split").iter_rows())
    scores = read_table(layout.scores(1), SCORES)
    assert {splits[user] for user in scores["user"]} == {"train", "valid"}
    for user, fold in scores.select("user", "fold").iter_rows():
        expected = fold_of(SEED, user, FOLDS) if splits[user] == "train" else ALL_FOLDS
        assert fold == expected
    train = read_table(layout.pairs(1), PAIRS)
    held_out = read_table(layout.heldout_pairs(1), PAIRS)
    assert {splits[user] for user in train["user"]} == {"train"}
    assert {splits[user] for user in held_out["user"]} == {"valid"}
    metrics = read_json(layout.pairs_metrics(1))
    assert (metrics["pairs"], train.height) == (4, 4)
    assert metrics["held_out"]["pairs"] == held_out.height > 0


def test_one_response_of_a_validation_user_gives_no_held_out_pair(tmp_path: Path) -> None:
    made = world(users=50, samples=3)
    valid = made.prompts.filter(pl.col("split") == "valid")["key"]
    extra = pl.col("key").is_in(valid.implode()) & (pl.col("sample") > 0)
    run(tmp_path, replace(made, user_vectors=made.user_vectors.filter(~extra)))
    assert read_table(layout.pairs(1), PAIRS).height == 4
    assert read_table(layout.heldout_pairs(1), PAIRS).is_empty()
    held_out = read_json(layout.pairs_metrics(1))["held_out"]
    assert held_out["users"] == held_out["dropped"]["one_response"] > 0
