"""bench.reward_noise: which noise is told apart from which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.reward_noise import Judgements, figures
from rec.rerank.features import Features
from rec.rerank.ranking import Judged
from tests.rerank.builders import world

SAMPLES, MODELS = 3, 4
PROTOCOLS = ("popularity", "uniform")


@pytest.fixture(scope="module")
def features() -> Features:
    return world(users=300, lists=8, samples=SAMPLES).features()


def judged(
    features: Features, of_models: float, of_negatives: float, of_positives: float
) -> list[list[Judgements]]:
    """Two folds of four models: the worth of a response, and noise of what the reward comes from.

    Noise of positives is that of a list, whoever judges it behind whatever negatives.
    """
    rng = np.random.default_rng(11)
    owner = features.list_user.numpy()
    lists = np.repeat(np.arange(len(owner)), SAMPLES)
    responses = owner[lists] * SAMPLES + np.tile(np.arange(SAMPLES), len(owner))
    worth = rng.normal(size=len(features.users) * SAMPLES)[responses]
    positives = of_positives * rng.normal(size=len(lists))
    negatives = {p: of_negatives * rng.normal(size=len(lists)) for p in PROTOCOLS}
    folds = []
    for fold in range(2):
        own = owner[lists] % 2 == fold
        models = []
        for _ in range(MODELS):
            shift = of_models * rng.normal(size=len(features.users) * SAMPLES)[responses]
            values = {p: (worth + positives + negatives[p] + shift)[own] for p in PROTOCOLS}
            models.append(
                {p: Judged(lists[own], responses[own], v, v, v) for p, v in values.items()}
            )
        folds.append(models)
    return folds


def run(features: Features, **noise: float) -> dict[str, Any]:
    made = {"of_models": 0.0, "of_negatives": 0.0, "of_positives": 0.0} | noise
    return figures(judged(features, **made), dict.fromkeys(PROTOCOLS, features))


def test_noise_of_models_is_lifted_by_more_of_them(features: Features) -> None:
    """A model's noise is the same on all lists: halves agree, and models do not."""
    found = run(features, of_models=1.0)
    assert found["users"] == 300 and found["responses"] == 300 * SAMPLES
    assert found["models"]["ndcg"][0] == pytest.approx(0.5, abs=0.06)
    assert found["by_ndcg"]["positives"]["1"][0] == pytest.approx(1.0)
    assert found["negatives"]["log_likelihood"][0] == pytest.approx(1.0)


def test_noise_of_positives_is_not(features: Features) -> None:
    """Of 8 lists a half has 4: noise of variance 4 leaves a half's reward with that of 1."""
    found = run(features, of_positives=2.0)
    assert found["models"]["ndcg"][0] == pytest.approx(1.0)
    assert found["negatives"]["ndcg"][0] == pytest.approx(1.0)
    halves = found["by_ndcg"]["positives"]
    assert list(halves) == ["1", "2", "4"]
    assert all(value[0] == pytest.approx(0.5, abs=0.08) for value in halves.values())
    assert found["by_ndcg"]["best_of_n"]["4"][0] > 30


def test_noise_of_negatives_is_told_from_that_of_positives(features: Features) -> None:
    found = run(features, of_negatives=2.0)
    assert found["negatives"]["ndcg"][0] == pytest.approx(1 / (1 + 4 / 8), abs=0.06)
    assert found["models"]["ndcg"][0] == pytest.approx(1.0)


def test_one_protocol_has_no_other_negatives(features: Features) -> None:
    folds = judged(features, 1.0, 1.0, 1.0)
    found = figures(folds, {"popularity": features})
    assert "negatives" not in found and found["models"]["ndcg"][0] < 0.9
