"""stages.rerank on a small world: who is ranked, with what, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from click.testing import CliRunner, Result

from rec import layout
from rec.config import BACKBONES, Machine, Params
from rec.errors import RecError
from rec.files import read_json
from rec.rerank.features import Features
from rec.rerank.ranking import rank
from rec.rerank.reranker import load
from rec.rerank.variants import runs_table
from rec.tables import NO_SAMPLE, RUNS, read_table
from stages import inputs, rerank
from tests.rerank.builders import DIMENSION, World, world
from tests.stages.small import PROTOCOLS, judged_lists, params, write_inputs

USERS = 25
VARIANTS = ["none", "noise", "items", "swapped", "history", "0", "1"]


@pytest.fixture(scope="module")
def made() -> World:
    return world(users=USERS, lists=3, samples=2)


@pytest.fixture(autouse=True)
def place(made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(made)


@pytest.fixture
def built(place: None) -> Features:
    return inputs.features(params())


def settings(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Params:
    found = params(**changes)
    monkeypatch.setattr("stages.runner.load_params", lambda path: found)
    return found


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(rerank.main, list(map(str, arguments)))


def run(variant: str, backbone: str = "prm", seed: int = 1) -> pl.DataFrame:
    result = invoke(variant, backbone, seed)
    assert (result.exit_code, result.output) == (0, "")
    return read_table(layout.runs(variant, backbone, seed), RUNS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_lists_of_validation_and_test_users_by_every_protocol(
    made: World, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    settings(monkeypatch, text="both")
    runs = run(variant)
    assert runs.select("variant", "backbone", "seed").unique().rows() == [(variant, "prm", 1)]
    assert runs["protocol"].unique(maintain_order=True).to_list() == PROTOCOLS
    splits = dict(made.prompts.select("user", "split").iter_rows())
    assert all(splits[user] == split for user, split in runs.select("user", "split").iter_rows())
    assert set(runs["split"]) == {"valid", "test"}
    expected = judged_lists(made)
    samples = {"noise": [0], "swapped": [0], "history": [0], "0": [0, 1], "1": [1]}.get(
        variant, [NO_SAMPLE]
    )
    for protocol, size in zip(PROTOCOLS, (6, 7), strict=True):
        own = runs.filter(protocol=protocol)
        assert own.select("list", "sample").rows() == [
            (name, sample) for name in sorted(expected) for sample in samples
        ]
        for name, labels in own.select("list", "labels").iter_rows():
            assert len(labels) == size and sum(labels) == sum(expected[name])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_model_of_the_main_protocol_is_kept(
    monkeypatch: pytest.MonkeyPatch, backbone: str
) -> None:
    """What it makes of the lists again is what the run holds."""
    found = settings(monkeypatch, text="both")
    runs = run("0", backbone, 7)
    model = load(layout.reranker("0", backbone, 7), "cpu")
    assert (model.backbone, model.config, model.shape.texts) == (backbone, found.ranker, 2)
    built = inputs.features(found)
    knowledge = rerank.knowledge_of(built, "0", found, 1)
    again = runs_table(
        built,
        knowledge,
        rank(model, built, knowledge, inputs.judged_rows(built)),
        variant="0",
        protocol=PROTOCOLS[0],
        backbone=backbone,
        seed=7,
    )
    assert again.equals(runs.filter(protocol=PROTOCOLS[0]))


def test_how_each_was_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch)
    run("items", "setrank", 2)
    described = read_json(layout.training("items", "setrank", 2))
    assert [described[key] for key in ("variant", "backbone", "seed")] == ["items", "setrank", 2]
    assert list(described["protocols"]) == PROTOCOLS
    for trained in described["protocols"].values():
        assert [point["epoch"] for point in trained["curve"]] == [1, 2, 3]
        best = trained["curve"][trained["best_epoch"] - 1]
        assert best["valid_ndcg@5"] == trained["valid_ndcg@5"]
    first, second = described["protocols"].values()
    assert first != second


def test_the_same_run_is_the_same_bytes_and_another_seed_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings(monkeypatch)
    paths = [f("history", "mir", 4) for f in (layout.runs, layout.training, layout.reranker)]
    run("history", "mir", 4)
    first = [path.read_bytes() for path in paths]
    run("history", "mir", 4)
    assert [path.read_bytes() for path in paths] == first
    other = run("history", "mir", 5)
    assert other["labels"].to_list() != read_table(paths[0], RUNS)["labels"].to_list()


def test_protocols_side_by_side_are_what_one_after_the_other_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings(monkeypatch)
    alone = run("0")
    described = read_json(layout.training("0", "prm", 1))
    settings(monkeypatch, machine=Machine(threads=2))
    assert run("0").equals(alone)
    assert read_json(layout.training("0", "prm", 1)) == described


def test_test_users_teach_nothing(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their lists the other way round, labels and all, leave the model as it is."""
    settings(monkeypatch)
    run("0")
    model = layout.reranker("0", "prm", 1).read_bytes()
    labels = pl.col("labels")
    turned = pl.when(split="test").then(labels.list.reverse()).otherwise(labels)
    write_inputs(replace(made, lists=made.lists.with_columns(labels=turned)))
    run("0")
    assert layout.reranker("0", "prm", 1).read_bytes() == model


def test_lists_that_were_shown_are_one_protocol(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(monkeypatch)
    write_inputs(made, ["shown"])
    runs = run("none")
    assert set(runs["protocol"]) == {"shown"}
    assert set(runs["list"]) == set(judged_lists(made))


class TestErrors:
    @pytest.mark.parametrize("variant", ["2", "sft", "popularity", "best"])
    def test_variant(self, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
        settings(monkeypatch)
        result = invoke(variant, "prm", 1)
        known = "none, noise, items, swapped, history, 0, 1"
        message = f"variant '{variant}' does not exist; use one of {known}"
        assert result.exit_code == 1
        assert result.output == f"Error: {message}\n"
        assert not layout.runs(variant, "prm", 1).exists()

    @pytest.mark.parametrize("arguments", [("none", "gru", 1), ("none", "prm", -1), ("none",)])
    def test_arguments(
        self, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]
    ) -> None:
        settings(monkeypatch)
        assert invoke(*arguments).exit_code == 2

    def test_vectors_that_are_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings(monkeypatch)
        layout.vectors("1").unlink()
        result = invoke("1", "prm", 1)
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {layout.vectors('1')}: no such file")
        assert result.output.count("\n") == 1

    def test_no_test_users(self, made: World, monkeypatch: pytest.MonkeyPatch) -> None:
        settings(monkeypatch)
        write_inputs(replace(made, lists=made.lists.filter(pl.col("split") != "test")))
        result = invoke("none", "prm", 1)
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert "no user of split 'test' has lists" in result.output


@pytest.mark.parametrize(
    ("variant", "text", "texts", "rows"),
    [
        ("items", "both", 0, 0),
        ("noise", "response", 1, USERS),
        ("history", "response", 1, USERS),
        ("swapped", "response", 1, USERS),
        ("history", "both", 1, USERS),
        ("0", "response", 1, 2 * USERS),
        ("0", "joint", 1, 2 * USERS),
        ("0", "both", 2, 2 * USERS),
        ("1", "response", 1, USERS),
    ],
)
def test_texts_of_each_variant(
    built: Features, variant: str, text: str, texts: int, rows: int
) -> None:
    found = rerank.knowledge_of(built, variant, params(text), 1)
    assert found is not None and found.dimension == DIMENSION
    assert found.texts == texts
    assert (0 if found.users is None else len(found.users)) == rows


def test_noise_is_another_for_each_seed(built: Features) -> None:
    first, again, other = (
        rerank.knowledge_of(built, "noise", params(), seed) for seed in (1, 1, 2)
    )
    assert first is not None and again is not None and other is not None
    assert torch.equal(first.items, again.items)
    assert not torch.equal(first.items, other.items)


def test_none_is_told_nothing(built: Features) -> None:
    assert rerank.knowledge_of(built, "none", params(), 1) is None


def test_items_are_the_same_for_all_but_noise(built: Features) -> None:
    tables = {}
    for variant in ("items", "history", "swapped", "0", "1", "noise"):
        found = rerank.knowledge_of(built, variant, params(), 1)
        assert found is not None
        tables[variant] = found.items
    for variant in ("history", "swapped", "0", "1"):
        assert torch.equal(tables[variant], tables["items"])
    assert not torch.equal(tables["noise"], tables["items"])


def test_swapped_is_the_history_of_another(built: Features) -> None:
    own, first, second = (
        rerank.knowledge_of(built, variant, params(), seed)
        for variant, seed in (("history", 1), ("swapped", 1), ("swapped", 2))
    )
    assert own is not None and first is not None and second is not None
    assert own.users is not None and first.users is not None and second.users is not None
    assert (own.users != first.users).flatten(1).any(1).all()
    assert not torch.equal(first.users, second.users)


def test_each_policy_has_its_own_responses(made: World, built: Features) -> None:
    base, other = (rerank.knowledge_of(built, policy, params(), 1) for policy in ("0", "1"))
    joint = rerank.knowledge_of(built, "0", params("joint"), 1)
    for found, samples in ((base, [0, 1]), (other, [1]), (joint, [10, 11])):
        assert found is not None and found.samples is not None
        assert found.samples.tolist() == samples * USERS
    assert base is not None and other is not None
    assert base.users is not None and other.users is not None
    assert torch.equal(base.users[1::2], other.users)


def test_a_history_stands_beside_each_response(built: Features) -> None:
    both = rerank.knowledge_of(built, "0", params("both"), 1)
    history = rerank.knowledge_of(built, "history", params(), 1)
    assert both is not None and both.users is not None
    assert history is not None and history.users is not None
    assert torch.equal(both.users[:, 1], history.users[:, 0].repeat_interleave(2, 0))


def test_noise_is_told_by_the_seed(built: Features) -> None:
    first, again, other = (
        rerank.knowledge_of(built, "noise", params(seed=seed), 1) for seed in (1, 1, 2)
    )
    assert first is not None and again is not None and other is not None
    assert torch.equal(first.items, again.items)
    assert not torch.equal(first.items, other.items)


def test_a_policy_that_is_not_there(built: Features) -> None:
    with pytest.raises(RecError, match="variant 'sft' does not exist"):
        rerank.knowledge_of(built, "sft", params(), 1)
