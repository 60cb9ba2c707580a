"""bench.fresh_reward: fresh responses judged by models that had no part in the round."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import bench.fresh_reward
from bench.fresh_reward import figures, halves, judgements
from rec.config import Knowledge, Rerank
from rec.knowledge import matrix, vectors_table
from rec.rerank.training import train
from tests.rerank.builders import DIMENSION, World, world
from tests.stages.test_mediate import params, write_inputs


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A finished round whose policy names the taste plainly; the policy before it mumbles."""
    monkeypatch.chdir(tmp_path)
    made = world(users=100, lists=4, samples=2, noise=0.2)
    keys, samples = made.user_vectors["key"].to_list(), made.user_vectors["sample"].to_list()
    tastes = np.eye(DIMENSION)[[made.tastes[key.removeprefix("user:")] for key in keys]]
    mumbled = matrix(made.user_vectors) * 0.5
    mumbled += np.random.default_rng(5).normal(size=mumbled.shape, scale=0.5)
    before = vectors_table(keys, samples, mumbled.astype(np.float16))
    after = vectors_table(keys, samples, tastes.astype(np.float16))
    write_inputs(replace(made, user_vectors=before), after)
    return made


def test_plainer_texts_please_judges_that_never_saw_their_users(made: World) -> None:
    tables = [
        judgements(params(), ("0", "1"), "response", learned, "prm", number)
        for learned in (0, 1)
        for number in (0, 1)
    ]
    found = figures(pl.concat(tables))
    assert (found["valid"]["users"], found["test"]["users"]) == (20, 20)
    for split in ("valid", "test"):
        ndcg = found[split]["ndcg@5"]
        for judges in ("judges_of_before", "judges_of_after"):
            cells = ndcg[judges]
            gain, low, _, p = cells["gain"]
            assert low > 0 and p < 0.01
            assert gain == pytest.approx(
                100 * (cells["told_after"][0] - cells["told_before"][0]), abs=0.02
            )
        whole = ndcg["judges_of_before"]["gain"][0] + ndcg["learned"][0]
        assert ndcg["ranking"][0] == pytest.approx(whole, abs=0.001)
        assert found[split]["log_likelihood"]["judges_of_before"]["gain"][0] > 0


def test_judges_stop_on_other_users_than_they_judge(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[list[str], list[str]]] = []

    def watched(*args: Any) -> Any:
        calls.append(args[5:7])
        return train(*args)

    monkeypatch.setattr(bench.fresh_reward, "train", watched)
    found = judgements(params(), ("0", "1"), "response", 0, "prm", 0)
    features = made.features()
    valid, test = features.users_of("valid"), features.users_of("test")
    (_, whole), (_, second), (_, first) = calls
    assert [learners for learners, _ in calls] == [features.users_of("train")] * 3
    assert sorted(whole) == sorted(valid)
    assert not set(first) & set(second) and sorted([*first, *second]) == sorted(valid)
    told = found.filter(told=1)
    assert sorted(told.filter(split="valid")["user"]) == sorted(valid)
    assert sorted(told.filter(split="test")["user"]) == sorted(test)
    means = found.filter(split="valid", told=0)["user"].to_list()
    assert means == [*first, *second]  # judged by the model that stopped on the other half


def test_command_trains_judges_on_either_policy(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it prints is what its judges say, told what re-rankers are told."""
    told = replace(params(), knowledge=Knowledge(text="response"), rerank=Rerank(["prm"], [1]))
    monkeypatch.setattr(bench.fresh_reward, "load_params", lambda path: told)
    printed = json.loads(CliRunner().invoke(bench.fresh_reward.main, ["--models", "2"]).output)
    tables = [
        judgements(told, ("0", "1"), "response", learned, "prm", number)
        for number in (0, 1)
        for learned in (0, 1)
    ]
    assert printed == {"judges": 2, "of": ["0", "1"], **figures(pl.concat(tables))}
    levels = printed["test"]["ndcg@5"]
    assert levels["judges_of_before"]["told_before"] != levels["judges_of_after"]["told_before"]
    unknown = CliRunner().invoke(bench.fresh_reward.main, ["--after", "7"])
    assert unknown.exit_code == 1 and "policy '7' does not exist" in unknown.output


def test_p_counts_judges_that_disagree() -> None:
    """By users alone 40 users of whom each gains 1 are certain; two judges of +3 and -1 are not."""
    noise = np.random.default_rng(2).normal(size=40, scale=0.1)

    def gain(by_judge: tuple[float, float]) -> list[float]:
        rows = [
            {
                "user": f"u{user:02d}",
                "judge": f"prm-{number}",
                "split": split,
                "learned": learned,
                "told": told,
                "ndcg@5": told * (by_judge[number] + noise[user]) / 100,
                "log_likelihood": 0.0,
            }
            for split in ("valid", "test")
            for learned in (0, 1)
            for told in (0, 1)
            for number in (0, 1)
            for user in range(40)
        ]
        found = figures(pl.DataFrame(rows))["test"]["ndcg@5"]["judges_of_before"]
        numbers: list[float] = found["gain"]
        return numbers

    value, low, high, p = gain((3.0, -1.0))
    assert value == pytest.approx(1.0, abs=0.1) and low < 0 < high and p > 0.5
    assert gain((1.0, 1.0))[3] < 0.001


def test_judges_differ_by_their_number_and_not_by_what_they_learn_from(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def watched(*args: Any) -> Any:
        seeds.append(args[4])
        return train(*args)

    monkeypatch.setattr(bench.fresh_reward, "train", watched)
    for learned, number in ((0, 0), (1, 0), (0, 1)):
        judgements(params(), ("0", "1"), "response", learned, "prm", number)
    assert seeds[:3] == seeds[3:6] and not set(seeds[:3]) & set(seeds[6:])


def test_halves_keep_the_order_and_lose_nobody() -> None:
    users = [f"u{number:02d}" for number in range(21)]
    first, second = halves(users, seed=1)
    assert (len(first), len(second)) == (10, 11)
    assert sorted([*first, *second]) == users and first == sorted(first)
    assert halves(users, seed=1) == [first, second] != halves(users, seed=2)
