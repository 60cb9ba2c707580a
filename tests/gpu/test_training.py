"""Training a re-ranker by replayed kernels is training it."""

from __future__ import annotations

import pytest
import torch

from rec.config import BACKBONES, Ranker
from rec.rerank import inputs
from rec.rerank.captured import WARM_UP
from rec.rerank.features import Features, Knowledge
from rec.rerank.training import Trainer
from tests.rerank.builders import KINDS, World, ranker, world

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

BATCH = 8


@pytest.fixture(scope="module")
def made() -> World:
    return world(users=60, lists=5, samples=2)


def trained(
    features: Features,
    knowledge: Knowledge | None,
    config: Ranker,
    backbone: str,
    replays: bool = True,
    epochs: int = 3,
) -> tuple[list[float], list[torch.Tensor]]:
    """Losses by epoch and the weights; every epoch ends with a batch that is not whole."""
    users = features.users_of("train")
    rows = features.rows(users)
    rows = rows[: len(rows) // BATCH * BATCH - 3]
    assert len(rows) > BATCH * (WARM_UP + 3)
    trainer = Trainer(features, knowledge, config, backbone, 1, users)
    if not replays:
        trainer._captured = None
    losses = [trainer.epoch(rows) for _ in range(epochs)]
    return losses, [weight.detach().clone() for weight in trainer.model.parameters()]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_what_plain_steps_learn(
    made: World, backbone: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "HIDDEN_USERS", 0.0)
    monkeypatch.setattr(inputs, "half_hidden", lambda vectors: vectors)
    features = made.features()
    knowledge = made.told(features, kind)
    config = ranker(batch_size=BATCH, dropout=0.0)
    losses, weights = trained(features, knowledge, config, backbone)
    expected, plain = trained(features, knowledge, config, backbone, replays=False)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert losses[0] != losses[1]
    for found, wanted in zip(weights, plain, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-2, atol=2e-3)


def test_every_replay_draws_anew(made: World) -> None:
    features = made.features()
    knowledge = made.told(features, "users")
    config = ranker(batch_size=BATCH, dropout=0.3, learning_rate=1e-12)
    losses, _ = trained(features, knowledge, config, "prm")
    assert len(set(losses)) == len(losses)
    again, _ = trained(features, knowledge, config, "prm")
    assert again == pytest.approx(losses, rel=1e-5)


def test_what_the_gpu_computes_is_what_the_processor_computes(made: World) -> None:
    """All items of a batch there, the distinct ones here."""
    on_gpu = made.features()
    for kind in KINDS:
        knowledge = made.told(on_gpu, kind)
        trainer = Trainer(on_gpu, knowledge, ranker(), "prm", 1, on_gpu.users_of("train"))
        items = on_gpu.items[:9]
        for place in ("cuda", "cpu"):
            distinct, where = inputs._distinct(items.to(place))
            assert torch.equal(distinct[where].cpu(), items.cpu())
        assert next(trainer.model.parameters()).is_cuda
