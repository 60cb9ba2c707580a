from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rec.rerank.features import Batch, Features, Knowledge, batch
from rec.rerank.prm import PRM, Shape, log_likelihood, sinusoids
from tests.rerank.builders import DIMENSION, RANKER, world


def inputs(kind: str) -> tuple[PRM, Batch]:
    made = world(users=10, samples=2)
    features = made.features()
    knowledge: Knowledge | None = None
    if kind != "none":
        knowledge = made.knowledge(features) if kind == "users" else made.item_knowledge(features)
    torch.manual_seed(0)
    dimension = 0 if kind == "none" else DIMENSION
    shape = Shape(len(features.catalogue), features.categories.shape[1], dimension, kind == "users")
    return PRM(shape, RANKER).eval(), lists_of(features, knowledge)


def lists_of(features: Features, knowledge: Knowledge | None) -> Batch:
    rows = torch.arange(12)
    responses = None
    if knowledge is not None and knowledge.first is not None:
        responses = knowledge.first[features.list_user[rows]]
    return batch(features, knowledge, rows, responses)


@pytest.mark.parametrize("kind", ["none", "items", "users"])
class TestPadding:
    def test_padding_of_the_list_changes_no_score(self, kind: str) -> None:
        model, lists = inputs(kind)
        wider = replace(
            lists,
            items=functional.pad(lists.items, (0, 3)),
            labels=functional.pad(lists.labels, (0, 3)),
        )
        scores = model(wider)
        torch.testing.assert_close(scores[:, :-3], model(lists))
        assert (scores[:, -3:] == -torch.inf).all()
        torch.testing.assert_close(
            log_likelihood(scores, wider.labels), log_likelihood(model(lists), lists.labels)
        )

    def test_padding_of_the_history_changes_no_score(self, kind: str) -> None:
        model, lists = inputs(kind)
        wider = replace(
            lists,
            history=functional.pad(lists.history, (4, 0)),
            ratings=functional.pad(lists.ratings, (4, 0), value=0.7),
        )
        torch.testing.assert_close(model(wider), model(lists))

    def test_neighbours_in_the_batch_change_no_score(self, kind: str) -> None:
        model, lists = inputs(kind)
        parts = {
            name: getattr(lists, name)[3:5] for name in ("items", "labels", "history", "ratings")
        }
        vectors = None if lists.user_vectors is None else lists.user_vectors[3:5]
        alone = replace(lists, **parts, user_vectors=vectors)
        torch.testing.assert_close(model(alone), model(lists)[3:5])

    def test_every_weight_learns(self, kind: str) -> None:
        model, lists = inputs(kind)
        loss = -log_likelihood(model(lists), lists.labels).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        for name, weight in model.named_parameters():
            assert weight.grad is not None and weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", ["none", "items", "users"])
def test_the_order_of_a_list_matters(kind: str) -> None:
    """The same items in another order have other scores: a re-ranker knows what came first."""
    model, lists = inputs(kind)
    plain = model(lists)
    turned = model(replace(lists, items=lists.items.flip(1), labels=lists.labels.flip(1))).flip(1)
    assert (plain - turned).abs().amax(1).min() > 1e-4
    model.position.weight.data.zero_()
    plain = model(lists)
    turned = model(replace(lists, items=lists.items.flip(1), labels=lists.labels.flip(1))).flip(1)
    torch.testing.assert_close(plain, turned)


def test_history_and_its_ratings_matter_without_knowledge() -> None:
    model, lists = inputs("none")
    plain = model(lists)
    assert not torch.allclose(model(replace(lists, ratings=-lists.ratings)), plain)
    assert not torch.allclose(model(replace(lists, history=lists.history.flip(0))), plain)
    empty = model(replace(lists, history=torch.zeros_like(lists.history)))
    assert empty.isfinite().all()


def test_longer_lists_than_ever_seen_have_positions() -> None:
    assert sinusoids(500, 7, torch.device("cpu")).shape == (500, 7)
    assert sinusoids(3, 4, torch.device("cpu"))[0].tolist() == [0.0, 1.0, 0.0, 1.0]


def likelihood_by_hand(scores: Tensor, labels: Tensor) -> float:
    probabilities = scores.softmax(0)
    return float((labels * probabilities.log()).sum() / labels.sum())


def test_log_likelihood() -> None:
    scores = torch.tensor([[0.3, -1.0, 2.0, -torch.inf], [1.0, 0.0, 0.5, 0.2]])
    labels = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = log_likelihood(scores, labels)
    assert found[0] == pytest.approx(likelihood_by_hand(scores[0, :3], labels[0, :3]))
    assert found[1] == 0.0
