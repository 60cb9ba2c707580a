"""What every re-ranker must hold, whichever model scores the list and whatever it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rec.config import BACKBONES, Ranker
from rec.rerank.features import Batch
from rec.rerank.losses import pointwise
from rec.rerank.reranker import Reranker
from tests.rerank.builders import (
    KINDS,
    RANKER,
    World,
    fresh,
    lists_of,
    ranker,
    world,
)

Case = tuple[Reranker, Batch]


@pytest.fixture(scope="module")
def made() -> World:
    return world(users=10, samples=2)


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, backbone: str, made: World) -> Case:
    """A re-ranker of disturbed weights, and 12 lists of 6 as it takes them."""
    return a_case(made, backbone, request.param)


def a_case(made: World, backbone: str, kind: str, config: Ranker = RANKER) -> Case:
    features = made.features()
    knowledge = made.told(features, kind)
    model = fresh(features, knowledge, backbone, config, disturbed=0.1).requires_grad_(False)
    return model, lists_of(model, features, knowledge, torch.arange(12))


def chosen(lists: Batch, rows: slice) -> Batch:
    """Some of the lists."""
    told = lists.user_vectors
    return replace(
        lists,
        items=lists.items[rows],
        labels=lists.labels[rows],
        history=lists.history[rows],
        ratings=lists.ratings[rows],
        user_vectors=None if told is None else told[rows],
    )


def with_items(lists: Batch, places: Tensor) -> Batch:
    """The lists with their items at these places."""
    return replace(lists, items=lists.items[:, places], labels=lists.labels[:, places])


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


class TestShapes:
    @pytest.mark.parametrize("width", [0, 1, 3, 30])
    def test_padding_of_the_list_changes_no_score(self, case: Case, width: int) -> None:
        model, lists = case
        wider = replace(lists, items=functional.pad(lists.items, (0, width)))
        scores = model(wider)
        assert scores.shape == wider.items.shape and scores.dtype == torch.float32
        same(scores[:, :6], model(lists))
        assert scores[:, 6:].isneginf().all()

    def test_lists_of_every_length_beside_each_other(self, case: Case) -> None:
        """A short list among long ones has the scores that it has by itself."""
        model, lists = case
        lengths = torch.arange(12) % 6 + 1
        mixed = replace(lists, items=lists.items * (torch.arange(6) < lengths[:, None]))
        scores = model(mixed)
        for row, length in enumerate(lengths.tolist()):
            alone = chosen(lists, slice(row, row + 1))
            alone = with_items(alone, torch.arange(length))
            same(scores[row, :length], model(alone)[0])
            assert scores[row, length:].isneginf().all()

    def test_longer_lists_than_ever_seen(self, case: Case) -> None:
        model, lists = case
        scores = model(with_items(lists, torch.arange(300) % 6))
        assert scores.shape == (12, 300) and scores.isfinite().all()

    def test_neighbours_in_the_batch_change_no_score(self, case: Case) -> None:
        model, lists = case
        whole = model(lists)
        same(model(chosen(lists, slice(3, 6))), whole[3:6])
        for row in range(12):
            same(model(chosen(lists, slice(row, row + 1))), whole[row : row + 1])

    def test_a_batch_of_one_can_be_trained_on(self, case: Case) -> None:
        model, lists = case
        model.requires_grad_(True).train()
        alone = chosen(lists, slice(3, 4))
        loss = model.loss(model(alone), alone.labels).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.isfinite()
        assert all(w.grad is None or w.grad.isfinite().all() for w in model.parameters())


class TestHistory:
    @pytest.mark.parametrize("width", [1, 4, 20])
    def test_padding_of_the_history_changes_no_score(self, case: Case, width: int) -> None:
        """Whatever stands there as a rating."""
        model, lists = case
        wider = replace(
            lists,
            history=functional.pad(lists.history, (width, 0)),
            ratings=functional.pad(lists.ratings, (width, 0), value=0.7),
        )
        same(model(wider), model(lists))

    def test_histories_of_every_length_beside_each_other(self, case: Case) -> None:
        model, lists = case
        lengths = torch.arange(12) % 6
        real = torch.arange(5) >= 5 - lengths[:, None]
        mixed = replace(lists, history=lists.history * real, ratings=lists.ratings * real)
        scores = model(mixed)
        for row, length in enumerate(lengths.tolist()):
            alone = chosen(mixed, slice(row, row + 1))
            cut = {"history": alone.history[:, 5 - length :]}
            cut["ratings"] = alone.ratings[:, 5 - length :]
            if length:
                alone = replace(alone, **cut)
            same(scores[row], model(alone)[0])

    def test_an_empty_history_has_scores_that_teach(self, case: Case) -> None:
        model, lists = case
        model.requires_grad_(True)
        nothing = {"history": lists.history * 0, "ratings": lists.ratings * 0}
        scores = model(replace(lists, **nothing))
        assert scores.isfinite().all()
        model.loss(scores, lists.labels).mean().backward()  # type: ignore[no-untyped-call]
        assert all(w.grad is None or w.grad.isfinite().all() for w in model.parameters())

    def test_what_was_seen_and_how_it_was_rated_count(self, case: Case) -> None:
        """Also without knowledge: every backbone is personalised."""
        model, lists = case
        plain = model(lists)
        unlike = (lists.history != lists.history.roll(1, 0)).any(1)
        assert unlike.sum() > 6
        others = model(replace(lists, history=lists.history.roll(1, 0)))
        assert ((others - plain).abs().amax(1)[unlike] > 1e-4).all()
        rated = lists.ratings.abs().amax(1) > 0
        assert rated.sum() > 6
        turned = model(replace(lists, ratings=-lists.ratings))
        assert ((turned - plain).abs().amax(1)[rated] > 1e-4).all()

    def test_its_order_counts_for_mir_alone(self, case: Case) -> None:
        """MIR reads it as a list (its section 4.2); to the others it is a set."""
        model, lists = case
        turned = {"history": lists.history.flip(1), "ratings": lists.ratings.flip(1)}
        difference = (model(replace(lists, **turned)) - model(lists)).abs().amax(1)
        if model.backbone == "mir":
            assert difference.median() > 1e-3
        else:
            assert difference.max() < 1e-5


class TestOrder:
    """Of the candidates, as the papers have it."""

    @pytest.mark.parametrize("seed", range(3))
    def test_permutations(self, case: Case, seed: int) -> None:
        """SetRank and MIR score a set; DLCM and PRM know the order of the initial list."""
        model, lists = case
        places = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        assert places.tolist() != list(range(6))
        found, expected = model(with_items(lists, places)), model(lists)[:, places]
        if model.backbone in ("setrank", "mir"):
            same(found, expected)
        else:
            assert (found - expected).abs().amax(1).min() > 1e-4

    @pytest.mark.parametrize("backbone", ["setrank", "mir"])
    def test_sets_with_padding_are_sets(self, backbone: str, made: World) -> None:
        model, lists = a_case(made, backbone, "both")
        wider = replace(lists, items=functional.pad(lists.items, (0, 2)))
        places = torch.tensor([6, 3, 1, 0, 7, 5, 2, 4])
        same(model(replace(wider, items=wider.items[:, places])), model(wider)[:, places])

    def test_each_item_is_seen_with_the_others(self, case: Case) -> None:
        """Another item in the last place changes the scores of those before it."""
        model, lists = case
        last = lists.items[:, -1:] % 24 + 1
        other = replace(lists, items=torch.cat([lists.items[:, :-1], last], dim=1))
        difference = (model(other) - model(lists))[:, :-1].abs()
        assert difference.amax(1).min() > 1e-5


#: Added to every score of a list, which means nothing to the losses of a softmax over it.
SHIFTS: dict[str, tuple[str, ...]] = {
    "dlcm": (),
    "prm": ("model.score.bias", "model.blocks.0.after_network.bias"),
    "setrank": ("model.score.2.bias",),
    "mir": ("model.score.2.bias",),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adaptor", ["hea", "mlp"])
@pytest.mark.parametrize("loss", ["listwise", "original"])
def test_every_weight_learns(
    backbone: str, kind: str, adaptor: str, loss: str, made: World
) -> None:
    features = made.features()
    knowledge = made.told(features, kind)
    model = fresh(features, knowledge, backbone, ranker(adaptor=adaptor, loss=loss), 0.3)
    lists = lists_of(model, features, knowledge, torch.arange(len(features.lists)))
    model.loss(model(lists), lists.labels).mean().backward()  # type: ignore[no-untyped-call]
    for name, weight in model.named_parameters():
        if name in SHIFTS[backbone] and model.loss is not pointwise:
            continue
        assert weight.grad is not None and weight.grad.abs().max() > 1e-7, name


@pytest.mark.parametrize("kind", ["items", "users", "both"])
def test_texts_count(backbone: str, kind: str, made: World) -> None:
    """Each text about the user, and those about the items."""
    model, lists = a_case(made, backbone, kind, ranker(similarity=False))
    plain = model(lists)
    assert lists.item_vectors is not None
    turned = model(replace(lists, item_vectors=lists.item_vectors.flip(0)))
    assert (turned - plain).abs().amax(1).min() > 1e-4
    for text in range(model.shape.texts):
        assert lists.user_vectors is not None
        other = lists.user_vectors.clone()
        other[:, text] = -other[:, text]
        told = model(replace(lists, user_vectors=other))
        assert (told - plain).abs().amax(1).min() > 1e-4
