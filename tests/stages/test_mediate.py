"""stages.mediate on a small world: every link of a round, from what the stages before it left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from rec import layout
from rec.config import Data, Evaluate, Knowledge, Machine, Params, Reward
from rec.files import read_json, write_json
from rec.knowledge import vectors_table
from rec.mediation.links import Link, read_links
from rec.rerank.reranker import save
from rec.reward import (
    describe,
    mean_over_folds,
    score_fold,
    score_valid,
    train_fold,
    weights_path,
)
from rec.tables import (
    INTERACTIONS,
    ITEMS,
    LISTS,
    PROMPTS,
    SCORES,
    vectors_schema,
    write_table,
)
from stages import mediate
from tests.rerank.builders import DIMENSION, World, ranker, world

FOLDS, SEED = 2, 3


def params() -> Params:
    return Params(
        seed=SEED,
        data=Data(rating_minimum=1.0, rating_maximum=5.0),
        knowledge=Knowledge(text="joint"),
        reward=Reward(text="response"),
        ranker=ranker(),
        evaluate=Evaluate(bootstrap=200),
        machine=Machine(threads=1),
        policies=["0", "1"],
        rounds={"1": "0"},
    )


def write_inputs(made: World, fresh: pl.DataFrame) -> None:
    """What the stage reads in round 1; `fresh` are the vectors of policy 1."""
    schema = vectors_schema(DIMENSION)
    write_json(layout.PREPARED, {"protocols": ["popularity"]})
    write_table(made.items, layout.ITEMS, ITEMS)
    write_table(made.interactions, layout.INTERACTIONS, INTERACTIONS)
    write_table(made.lists, layout.LISTS, LISTS)
    write_table(made.prompts, layout.PROMPTS, PROMPTS)
    write_table(made.item_vectors, layout.ITEM_VECTORS, schema)
    first = made.user_vectors.filter(pl.col("sample") == 0)
    write_table(first, layout.HISTORY_VECTORS, schema)
    write_table(made.user_vectors, layout.vectors("0"), schema)
    write_table(fresh, layout.vectors("1"), schema)
    noise = np.random.default_rng(8).normal(size=(made.user_vectors.height, DIMENSION))
    keys, samples = made.user_vectors["key"].to_list(), made.user_vectors["sample"].to_list()
    for policy in ("0", "1"):  # what the reward does not read
        joint = vectors_table(keys, samples, noise.astype(np.float16))
        write_table(joint, layout.joint_vectors(policy), schema)
    features = made.features()
    knowledge = made.knowledge(features)
    layout.reward(1).mkdir(parents=True)
    tables = []
    for fold in range(FOLDS):
        reward, _ = train_fold(features, knowledge, ranker(epochs=10), "prm", SEED, fold, FOLDS)
        save(reward.model, weights_path(layout.reward(1), fold))
        tables += [score(reward, features, knowledge) for score in (score_fold, score_valid)]
    write_json(layout.reward(1) / "reward.json", describe(SEED, FOLDS, 1, []))
    write_table(mean_over_folds(tables), layout.scores(1), SCORES)


def clearer(made: World) -> pl.DataFrame:
    """Every response as clear as a user's first: what a perfect alignment would write."""
    table = made.user_vectors
    first = table.filter(pl.col("sample") == 0).select("key", best="vector")
    best = table.join(first, on="key", maintain_order="left")["best"].to_numpy()
    return vectors_table(table["key"].to_list(), table["sample"].to_list(), best)


def run() -> Result:
    return CliRunner().invoke(mediate.main, ["1"])


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.runner.load_params", lambda path: params())


def links() -> dict[str, Link]:
    result = run()
    assert (result.exit_code, result.output) == (0, "")
    return {link.name: link for link in read_links(layout.mediation(1))}


def test_a_round_that_works_holds_at_every_link() -> None:
    made = world(users=150, lists=6, samples=3, noise=0.1)
    write_inputs(made, clearer(made))
    found = links()
    described = read_json(layout.mediation(1))
    assert (described["round"], described["policy"]) == (1, "0")
    for link in found.values():
        assert link.value is None or link.low <= link.value <= link.high  # type: ignore[operator]
    deciding = [link for link in found.values() if link.chain]
    assert [link.step for link in deciding] == [
        "identifiability",
        "sensitivity",
        "reliability",
        "best_of_n",
        "fresh_reward",
    ]
    assert all(link.holds for link in deciding)
    splits = made.prompts["split"].value_counts()
    counts = dict(splits.iter_rows())
    assert found["identifiability_test"].users == counts["test"]
    assert 0 < found["fresh_reward_valid"].users <= counts["valid"]
    assert 0 < found["reliability_train"].users <= counts["train"]
    for name in ("log_likelihood_across_valid", "best_of_n_log_likelihood_across_valid"):
        assert found[name].holds and not found[name].chain
        assert 0 < found[name].users <= counts["valid"]


def test_the_same_responses_again_gain_nothing() -> None:
    made = world(users=60, samples=2)
    write_inputs(made, made.user_vectors)
    found = links()
    for name in ("fresh_reward_valid", "fresh_reward_train"):
        assert found[name].value == pytest.approx(0, abs=1e-4)
        assert found[name].low == pytest.approx(0, abs=1e-4)
    first = layout.mediation(1).read_bytes()
    assert run().exit_code == 0
    assert layout.mediation(1).read_bytes() == first


def test_one_response_of_a_validation_user_leaves_their_links_open() -> None:
    made = world(users=60, samples=2)
    valid = made.prompts.filter(pl.col("split") == "valid")["key"]
    extra = pl.col("key").is_in(valid.implode()) & (pl.col("sample") > 0)
    made = replace(made, user_vectors=made.user_vectors.filter(~extra))
    write_inputs(made, made.user_vectors)
    found = links()
    assert found["reliability_valid"].value is None
    assert found["reliability_valid"].users == 0
    assert found["best_of_n_train"].value is not None
    assert found["fresh_reward_valid"].value is not None


def test_a_response_of_a_user_without_a_prompt() -> None:
    made = world(users=60)
    write_inputs(made, made.user_vectors)
    short = made.user_vectors.filter(pl.col("key") != "user:u004")
    write_table(short, layout.HISTORY_VECTORS, vectors_schema(DIMENSION))
    result = run()
    assert result.exit_code == 1
    assert "responses.parquet: a response has no prompt" in result.output
