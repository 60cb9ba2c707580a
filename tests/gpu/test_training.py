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


@pytest.mark.parametrize("hides", [True, False])
def test_every_replay_draws_anew(made: World, hides: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same batch, again and again, while hardly anything is learned."""
    if not hides:
        monkeypatch.setattr(inputs, "HIDDEN_USERS", 0.0)
        monkeypatch.setattr(inputs, "half_hidden", lambda vectors: vectors)
    features = made.features()
    knowledge = made.told(features, "users")
    share = 0.3 if hides else 0.0
    config = ranker(batch_size=BATCH, dropout=share, learning_rate=1e-12)
    trainer = Trainer(features, knowledge, config, "prm", 1, features.users_of("train"))
    trainer.model.train()
    assert trainer.prepared is not None and trainer.prepared.first is not None
    lists = features.rows(features.users_of("train"))[:BATCH]
    responses = trainer.prepared.first[features.list_user[lists]]
    step = trainer._captured
    assert step is not None
    first, *others = [float(step(lists, responses)) for _ in range(WARM_UP + 4)][WARM_UP:]
    for loss in others:
        assert (loss == pytest.approx(first, rel=1e-5)) is not hides


def test_all_items_of_a_batch_stand_for_themselves(made: World) -> None:
    items = made.features().items[:9]
    all_of_them, where = inputs._distinct(items)
    assert all_of_them.numel() == items.numel()
    assert torch.equal(all_of_them[where], items)
