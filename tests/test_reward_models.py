"""bench.reward_models: what models pick is valued by others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.reward_models import figures, judged, teams
from rec.mediation.halves import Halves
from rec.reward import fold_of
from tests.rerank.builders import world
from tests.stages.test_mediate import SEED, params, write_inputs

USERS, TEXTS, MODELS = 300, 3, 8
OWNERS = np.repeat(np.arange(USERS), TEXTS)


def made(worth: float, reaction: float) -> list[Halves]:
    rng = np.random.default_rng(11)
    shared = worth * rng.normal(size=(len(OWNERS), 1))
    models = []
    for _ in range(MODELS):
        ndcg, finer = (
            np.repeat(shared + own * rng.normal(size=(len(OWNERS), 1)), 2, axis=1)
            for own in (reaction, 0.1)
        )
        models.append(Halves(OWNERS, np.arange(len(OWNERS)), ndcg, finer))
    return models


def test_teams_are_of_different_models() -> None:
    for count in (1, 2, 4):
        for pickers, valuers in teams(MODELS, count):
            assert len(pickers) == count and len(valuers) == MODELS // 2
            assert not set(pickers) & set(valuers)


def test_a_reaction_of_ones_own_is_not_worth_what_it_seems() -> None:
    found = figures(made(worth=1.0, reaction=2.0))
    assert (found["users"], found["responses"], found["models"]) == (USERS, len(OWNERS), MODELS)
    coarse, finer = found["ndcg"], found["log_likelihood"]
    assert coarse["agreement"][0] == pytest.approx(0.2, abs=0.05)  # 1 / (1 + 4)
    assert coarse["itself"]["reliability"][0] == pytest.approx(1.0)
    assert list(coarse["by_others"]) == ["1", "2", "4"]
    gains = [one["best_of_n"][0] for one in coarse["by_others"].values()]
    assert gains == sorted(gains) and coarse["itself"]["best_of_n"][0] > 2 * gains[0]
    assert finer["by_others"]["1"]["best_of_n"][0] > gains[-1]


def test_a_model_judges_the_users_of_its_fold_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    world_, settings = world(users=60, lists=4, samples=2), params()
    settings.reward.folds = 2
    write_inputs(world_, fresh=world_.user_vectors)
    found = judged(settings, "0", "prm", 1, 0)
    users = world_.features().users
    judged_users = {users[number] for number in found.owners}
    train = set(world_.prompts.filter(split="train")["user"])
    assert judged_users and judged_users <= train
    assert all(fold_of(SEED, user, 2) == 1 for user in judged_users)
    again = judged(settings, "0", "prm", 1, 1)
    assert (found.texts == again.texts).all() and not np.allclose(found.ndcg, again.ndcg)
