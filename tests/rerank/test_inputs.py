from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.rerank import inputs
from rec.rerank.features import Batch, Knowledge
from rec.rerank.inputs import ROWS, HistoryAttention, Inputs, Shape, half_hidden
from rec.rerank.reranker import Reranker
from tests.rerank.builders import DIMENSION, fresh, lists_of, ranker, world


@pytest.fixture(scope="module")
def both() -> tuple[Reranker, Batch, Knowledge]:
    """A re-ranker that is told two texts, 20 lists, and what it is told."""
    made = world(users=10, samples=2)
    features = made.features()
    knowledge = made.told(features, "both")
    assert knowledge is not None
    model = fresh(features, knowledge, "prm", disturbed=0.1).requires_grad_(False)
    return model, lists_of(model, features, knowledge, torch.arange(20)), knowledge


class TestHalfHidden:
    @pytest.mark.parametrize("width", [1, 7, 8, 12, 384, 385])
    def test_entries_are_doubled_or_0_by_a_coin(self, width: int) -> None:
        """Each entry by its own: half of them, in every column and in every row, in no pattern."""
        torch.manual_seed(0)
        vectors = torch.randn(4000, width).abs() + 0.1
        found = half_hidden(vectors)
        assert found.shape == vectors.shape
        kept = found > 0
        torch.testing.assert_close(found[kept], 2 * vectors[kept])
        assert (found[~kept] == 0).all()
        share = kept.float()
        assert float(share.mean()) == pytest.approx(0.5, abs=4 * 0.5 / (4000 * width) ** 0.5)
        assert (share.mean(0) - 0.5).abs().max() < 0.05
        assert (share.mean(1) - 0.5).abs().max() < 4.5 * 0.5 / width**0.5 + 1e-6
        if width > 1:
            columns = share[:, :24] - 0.5
            together = columns.T @ columns / 4000 * 4
            assert (together - torch.eye(together.shape[0])).abs().max() < 0.09

    def test_the_mean_is_kept(self) -> None:
        torch.manual_seed(0)
        vector = torch.randn(13)
        found = half_hidden(vector.expand(20000, 13)).mean(0)
        torch.testing.assert_close(found, vector, atol=0.06, rtol=0.03)

    @given(st.integers(1, 40), st.integers(0, 5), st.sampled_from(["float32", "bfloat16"]))
    @settings(max_examples=30)
    def test_any_width_number_and_type(self, width: int, rows: int, kind: str) -> None:
        vectors = torch.ones(rows, width, dtype=getattr(torch, kind))
        found = half_hidden(vectors)
        assert found.shape == vectors.shape and found.dtype == vectors.dtype
        assert set(found.flatten().tolist()) <= {0.0, 2.0}


class TestSimilarity:
    def test_cosines_are_those_of_numpy(self, both: tuple[Reranker, Batch, Knowledge]) -> None:
        """Of texts without their means, by the root of the dimension."""
        model, lists, knowledge = both
        distinct, place = torch.unique(lists.items, return_inverse=True)
        assert lists.item_vectors is not None and lists.user_vectors is not None
        vectors = lists.item_vectors[distinct].float()
        found = inputs._cosines(vectors, place, lists.user_vectors)
        assert found.shape == (20, 6, 2) and found.dtype == torch.float32
        assert knowledge.users is not None and knowledge.first is not None
        means = model.inputs.adaptor.mean.numpy()
        items = knowledge.items.float().numpy() - means[0]
        for row in range(20):
            response = int(knowledge.first[row // 4])
            for text in range(2):
                told = knowledge.users[response, text].float().numpy() - means[1 + text]
                own = items[lists.items[row].numpy()]
                cosines = own @ told / np.linalg.norm(own, axis=1) / np.linalg.norm(told)
                expected = cosines * DIMENSION**0.5
                np.testing.assert_allclose(found[row, :, text], expected, atol=4e-3)

    def test_they_are_as_exact_as_the_vectors(
        self, both: tuple[Reranker, Batch, Knowledge]
    ) -> None:
        """fp32 in ranking: nothing is rounded to bf16 on the way."""
        _, lists, _ = both
        assert lists.item_vectors is not None and lists.user_vectors is not None
        vectors = lists.item_vectors.double()
        expected = vectors[lists.items] @ lists.user_vectors.double().transpose(1, 2)
        found = inputs._cosines(vectors.float(), lists.items, lists.user_vectors)
        torch.testing.assert_close(found.double(), expected / DIMENSION**0.5, atol=1e-6, rtol=1e-6)

    def test_padding_says_nothing(self, both: tuple[Reranker, Batch, Knowledge]) -> None:
        _, lists, _ = both
        assert lists.item_vectors is not None and lists.user_vectors is not None
        assert (lists.item_vectors[0] == 0).all()
        nothing = torch.zeros(20, 6, dtype=torch.int64)
        found = inputs._cosines(lists.item_vectors.float(), nothing, lists.user_vectors)
        assert (found == 0).all()

    def test_without_it_there_is_no_such_layer(self) -> None:
        shape = Shape(items=24, categories=2, dimension=DIMENSION, texts=1)
        assert not hasattr(Inputs(shape, ranker(similarity=False)), "similarity")
        assert hasattr(Inputs(shape, ranker(similarity=True)), "similarity")
        assert not hasattr(Inputs(replace(shape, texts=0), ranker(similarity=True)), "similarity")


class TestPrepared:
    def test_every_text_is_centred_on_its_own_mean(
        self, both: tuple[Reranker, Batch, Knowledge]
    ) -> None:
        model, _, knowledge = both
        prepared = model.inputs.prepared(knowledge)
        assert prepared is not None and prepared.users is not None
        assert knowledge.users is not None
        adaptor = model.inputs.adaptor
        for text in range(2):
            expected = adaptor.centred(knowledge.users[:, text], 1 + text)
            assert torch.equal(prepared.users[:, text], expected)
        assert torch.equal(prepared.items[1:], adaptor.centred(knowledge.items[1:], 0))
        assert prepared.first is knowledge.first and prepared.count is knowledge.count

    def test_the_texts_themselves_are_left_alone(
        self, both: tuple[Reranker, Batch, Knowledge]
    ) -> None:
        model, _, knowledge = both
        assert knowledge.users is not None
        items, users = knowledge.items.clone(), knowledge.users.clone()
        model.inputs.prepared(knowledge)
        assert torch.equal(knowledge.items, items) and torch.equal(knowledge.users, users)

    def test_nothing_stays_nothing(self, both: tuple[Reranker, Batch, Knowledge]) -> None:
        assert both[0].inputs.prepared(None) is None


class TestHiding:
    """Of user vectors while training: half of the entries, and all of every other user."""

    def test_ranking_hides_nothing(self, both: tuple[Reranker, Batch, Knowledge]) -> None:
        model, lists, _ = both
        assert torch.equal(model(lists), model(lists))

    def test_training_does(self, both: tuple[Reranker, Batch, Knowledge]) -> None:
        model, lists, _ = both
        model.train()
        torch.manual_seed(0)
        first, second = model(lists), model(lists)
        model.eval()
        assert ((first - second).abs().amax(1) > 1e-4).float().mean() > 0.8

    def test_whole_users_are_hidden(
        self, both: tuple[Reranker, Batch, Knowledge], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where all are, training sees what it would see of users who are told of by cosines."""
        model, lists, _ = both
        monkeypatch.setattr(inputs, "HIDDEN_USERS", 1.1)
        model.train()
        first, second = model(lists), model(lists)
        model.eval()
        torch.testing.assert_close(first, second)
        assert not torch.allclose(first, model(lists))

    def test_half_of_them_are(
        self, both: tuple[Reranker, Batch, Knowledge], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each text by a coin of its own: a quarter of the users keep both, a quarter neither."""
        model, lists, _ = both
        monkeypatch.setattr(inputs, "half_hidden", lambda vectors: vectors)
        assert lists.user_vectors is not None
        many = replace(
            lists,
            items=lists.items[:1].repeat(1000, 1),
            labels=lists.labels[:1].repeat(1000, 1),
            history=lists.history[:1].repeat(1000, 1),
            ratings=lists.ratings[:1].repeat(1000, 1),
            user_vectors=lists.user_vectors[:1].repeat(1000, 1, 1),
        )
        told = model(many)
        torch.manual_seed(0)
        model.train()
        seen = model(many)
        with monkeypatch.context() as patch:
            patch.setattr(inputs, "HIDDEN_USERS", 1.1)
            hidden = model(many)
        model.eval()
        for expected in (told, hidden):
            share = ((seen - expected).abs().amax(1) < 1e-5).float().mean()
            assert float(share) == pytest.approx(0.25, abs=0.06)

    def test_distinct_items_are_adapted_once(
        self, both: tuple[Reranker, Batch, Knowledge], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, lists, _ = both
        sizes = []
        adaptor = model.inputs.adaptor
        forward = adaptor.forward

        def spy(vectors: torch.Tensor, source: int) -> torch.Tensor:
            sizes.append((source, len(vectors)))
            adapted: torch.Tensor = forward(vectors, source)
            return adapted

        monkeypatch.setattr(adaptor, "forward", spy)
        model(lists)
        assert len(torch.unique(lists.items)) <= ROWS
        assert sizes == [(0, ROWS), (1, 20), (2, 20)]
        sizes.clear()
        model.train()
        model(lists)
        model.eval()
        assert all(size in (0, ROWS) for _, size in sizes)

    def test_hidden_users_are_not_adapted(
        self, both: tuple[Reranker, Batch, Knowledge], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those who are seen are adapted as all of them together, with the same gradients."""
        model, lists, _ = both
        monkeypatch.setattr(inputs, "half_hidden", lambda vectors: vectors)
        assert lists.user_vectors is not None
        vectors = lists.user_vectors[:, 0].float()
        vectors = torch.cat([vectors + shift for shift in range(5)])
        part = model.inputs.train()
        weights = [weight.requires_grad_() for weight in part.adaptor.parameters()]
        torch.manual_seed(3)
        found = part._adapted(vectors, 1)
        torch.manual_seed(3)
        seen = (torch.rand(100) >= inputs.HIDDEN_USERS).unsqueeze(1)
        expected = part.adaptor(vectors, 1) * seen
        gradients = [
            torch.autograd.grad(
                made.pow(2).sum(), weights, allow_unused=True, materialize_grads=True
            )
            for made in (found, expected)
        ]
        model.requires_grad_(False).eval()
        assert 30 < int(seen.sum()) < 70
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


class TestDistinct:
    @given(st.lists(st.lists(st.integers(0, 300), min_size=4, max_size=4), min_size=1, max_size=80))
    @settings(max_examples=50)
    def test_items_are_found_again_and_sizes_are_few(self, lists: list[list[int]]) -> None:
        items = torch.tensor(lists)
        distinct, place = inputs._distinct(items)
        assert torch.equal(distinct[place], items)
        count = len(torch.unique(items))
        assert len(distinct) % ROWS == 0 and count <= len(distinct) < count + ROWS
        assert (distinct[count:] == 0).all()

    def test_what_fills_up_learns_nothing(self) -> None:
        """Item 0 is padding: its embedding has no gradient, and is not moved by one."""
        table = torch.nn.Embedding(9, 4, padding_idx=0)
        distinct, place = inputs._distinct(torch.tensor([[3, 5, 3]]))
        table(distinct)[place].sum().backward()
        assert table.weight.grad is not None
        expected = torch.zeros(9).index_add(0, torch.tensor([3, 5, 3]), torch.ones(3))
        assert torch.equal(table.weight.grad[:, 0], expected)


class TestHistoryAttention:
    def test_equals_the_docstring_written_out(self) -> None:
        """Interaction by interaction: keys and values are of the item, and rated of the rating."""
        torch.manual_seed(0)
        made = HistoryAttention(6, 8, heads=2)
        for weight in made.parameters():
            torch.nn.init.normal_(weight, std=0.4)
        query, items = torch.randn(3, 4, 8), torch.randn(5, 6)
        place, ratings = torch.randint(5, (3, 7)), torch.rand(3, 7) * 2 - 1
        mask = torch.arange(7) >= 7 - torch.tensor([7, 2, 0])[:, None]
        found = made(query, items, place, ratings, mask)
        for row in range(3):
            both = [made.empty[:16]]
            for cell in range(7):
                if mask[row, cell]:
                    plain, rated = made.keys(items[place[row, cell]]).chunk(2)
                    both.append(plain + ratings[row, cell] * (rated + made.rating))
            keys, values = torch.stack(both).chunk(2, dim=1)
            heads = []
            for head in (slice(0, 4), slice(4, 8)):
                logits = query[row, :, head] @ keys[:, head].T / 2
                heads.append(logits.softmax(1) @ values[:, head])
            attended = torch.cat(heads, dim=1)
            expected = made.output(attended) + made.match(attended * query[row])
            torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-4)
