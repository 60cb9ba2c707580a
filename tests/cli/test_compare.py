"""rec compare: on a small project with tiny models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from rec import layout
from rec.params import load_params
from rec.prompts import words
from rec.reward import load_models, mean_over_folds, score_valid
from tests.cli.running import on_a_terminal, rec
from tests.inference.project import SIZE, project_features, project_knowledge


@pytest.fixture(autouse=True)
def project(small_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_project)


def test_a_validation_user() -> None:
    result = rec("compare", "--user", 164, "--sample", 1, "--list", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    texts, rewards, ranking = result.stdout.split("\n\n")
    lines = texts.splitlines()
    assert lines[0] == "Base LLM, response 1:"
    assert lines[1:3] == ["  Loved films: [-Star Wars-]", "  Disliked films: 164 1"]
    assert lines[8:10] == ["DPO4Rec, round 1, response 1:", "  Loved films: {+Toy Story+}"]
    assert len(lines) == 16
    title, header, *rows = rewards.splitlines()
    assert title == "Reward of a valid user:"
    assert header.split() == ["LLM", "response", "NDCG@5", "MAP@5", "log-likelihood"]
    assert [row[:33].split("  ")[0] for row in rows] == 2 * ["Base LLM"] + 2 * ["DPO4Rec, round 1"]
    title, header, *rows, note = ranking.splitlines()
    assert title == "List 2 of 2, ranked with each response:"
    assert header.split() == ["item", "title", "at", "first", "without", "base", "aligned", "liked"]
    assert len(rows) == SIZE and sum(row.endswith("✓") for row in rows) == 1
    assert note.startswith("NDCG@5: at first ")


def test_json_and_the_tables_of_the_project() -> None:
    document = json.loads(rec("compare", "--user", 120, "--format", "json").stdout)
    assert json.loads(rec("compare", "--user", 120, "--format", "jsonl").stdout) == document
    lists = pl.read_parquet(layout.LISTS).filter(list="120-0")
    assert {one["item"]: int(one["liked"]) for one in document["ranking"]} == dict(
        zip(lists["items"][0], lists["labels"][0], strict=True)
    )
    for key in ("rank_first", "rank_without", "rank_base", "rank_adapter"):
        assert sorted(one[key] for one in document["ranking"]) == list(range(1, SIZE + 1))
    assert [llm["adapter"] for llm in document["llms"]] == ["base", "aligned"]
    for llm in document["llms"]:
        assert llm["samples"] == 2
        assert set(llm["reward"]) == set(llm["mean_reward"])


def test_rewards_are_of_what_reward_models_read(small_project: Path) -> None:
    """And rankings of what re-rankers do: in this project the history beside the response."""
    params = load_params(small_project / "params.yaml")
    assert (params.reward.text, params.knowledge.text) == ("response", "joint")
    features = project_features(small_project, params)
    document = json.loads(rec("compare", "--user", 164, "--format", "json").stdout)
    for policy, llm in zip(("0", "1"), document["llms"], strict=True):
        knowledge = project_knowledge(small_project, features, policy, "response")
        models = load_models(layout.reward(1))
        scores = mean_over_folds([score_valid(model, features, knowledge) for model in models])
        (own,) = scores.filter(user="164", sample=0).select(list(llm["reward"])).to_dicts()
        assert llm["reward"] == pytest.approx(own, abs=1e-5)


def test_users_with_less_to_say() -> None:
    train = rec("compare", "--user", 120).stdout
    assert train.endswith("A train user: the re-rankers have learned from this list.\n")
    test = rec("compare", "--user", 10)
    assert "No reward: a test user, whom no reward model may judge." in test.stdout
    assert (
        json.loads(rec("compare", "--user", 10, "--format", "json").stdout)["llms"][0]["reward"]
        is None
    )


def test_what_was_not_sampled_is_sampled_now(
    small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kept in ("params.yaml", "data"):
        source = small_project / kept
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / kept)
    monkeypatch.chdir(tmp_path)
    layout.responses("1").unlink()
    result = rec("compare", "--user", 164, "--format", "json")
    assert result.stderr == "aligned: the pipeline has sampled nothing of it, so this does\n"
    base, aligned = json.loads(result.stdout)["llms"]
    assert base["profile"].startswith("Loved films: Star Wars")
    labels = [line.partition(":")[0] for line in aligned["profile"].splitlines()]
    assert labels == list(words("films").card)
    assert aligned["samples"] == 2 and aligned["reward"]
    path = layout.policy("1") / layout.ADAPTER
    named = rec("compare", "--user", 164, "--adapter", path, "--format", "json")
    other = json.loads(named.stdout)["llms"][1]
    assert (other["llm"], other["profile"]) == (str(path), aligned["profile"])


def test_no_rounds(small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (small_project / "params.yaml").read_text()
    text = text.replace("rounds:\n  '1': '0'", "rounds: {}").replace("- '0'\n- '1'", "- '0'")
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "data").symlink_to(small_project / "data")
    monkeypatch.chdir(tmp_path)
    result = rec("compare", "--user", 164, "--adapter", "base")
    assert "No reward: no round, or no list with a liked item." in result.stdout
    assert "nothing is aligned" in rec("compare", "--user", 164).stderr


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ([], 2, "Missing option '--user'"),
        (["--user", "5"], 1, "data/prompts.parquet: user '5' is not in it"),
        (["--user", "10", "--list", "3"], 1, "list 3 is not there; the user has lists 1 to 2"),
        (["--user", "10", "--sample", "2"], 1, "sample 2 is not there; the samples are 0, 1"),
        (["--user", "10", "--round", "2"], 1, "round 2 does not exist; params.yaml has rounds 1"),
        (["--user", "10", "--backbone", "x"], 1, "backbone 'x': params.yaml has"),
    ],
)
def test_what_is_wrong(options: list[str], status: int, said: str) -> None:
    result = rec("compare", *options)
    assert result.exit_code == status
    assert said in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_wide_terminal_shows_the_texts_beside_each_other() -> None:
    shown = on_a_terminal("compare", "--user", "164", columns=120)
    assert any("Star Wars" in line and "Toy Story" in line for line in shown.splitlines())
