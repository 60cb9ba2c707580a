from __future__ import annotations

import doctest
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from rec.rerank import losses
from rec.rerank.losses import (
    Loss,
    attention_rank,
    likelihood_of_clicks,
    listwise,
    log_likelihood,
    pointwise,
)
from rec.rerank.prm import PRM

FIXTURE = Path(__file__).parents[1] / "fixtures" / "setrank_loss.json"
LOSSES: list[Loss] = [listwise, likelihood_of_clicks, attention_rank, pointwise]


@pytest.fixture(scope="module")
def kar() -> dict[str, Any]:
    """Losses and gradients that KAR's code gives for SetRank."""
    found: dict[str, Any] = json.loads(FIXTURE.read_text())
    return found


def gradient(loss: Loss, scores: Tensor, labels: Tensor) -> Tensor:
    """Of the sum of the lists' losses, [B, n]."""
    leaf = scores.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf, labels).sum(), leaf)
    return found


def log_softmax(scores: list[float]) -> list[float]:
    total = math.log(sum(map(math.exp, scores)))
    return [score - total for score in scores]


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(losses)
    assert found.attempted > 0 and found.failed == 0


def test_prm_is_trained_with_the_likelihood_of_clicks() -> None:
    assert PRM.loss is likelihood_of_clicks


class TestByHand:
    SCORES = (0.3, -1.0, 2.0)
    LABELS = (1.0, 0.0, 1.0)

    def value(self, loss: Loss) -> float:
        return float(loss(torch.tensor([self.SCORES]), torch.tensor([self.LABELS]))[0])

    def test_listwise(self) -> None:
        logs = log_softmax(list(self.SCORES))
        assert self.value(listwise) == pytest.approx(-(logs[0] + logs[2]) / 2)

    def test_likelihood_of_clicks(self) -> None:
        logs = log_softmax(list(self.SCORES))
        assert self.value(likelihood_of_clicks) == pytest.approx(-(logs[0] + logs[2]))

    def test_attention_rank(self) -> None:
        logs = log_softmax(list(self.SCORES))
        shares = list(map(math.exp, logs))
        expected = sum(
            -wanted * log - (1 - wanted) * math.log(1 - share)
            for wanted, log, share in zip((0.5, 0.0, 0.5), logs, shares, strict=True)
        )
        assert self.value(attention_rank) == pytest.approx(expected)

    def test_pointwise(self) -> None:
        terms = (
            math.log(1 + math.exp(-score if label else score))
            for score, label in zip(self.SCORES, self.LABELS, strict=True)
        )
        assert self.value(pointwise) == pytest.approx(sum(terms) / 3)

    def test_graded_labels_weigh_in_proportion(self) -> None:
        scores, labels = torch.tensor([self.SCORES]), torch.tensor([[1.0, 0.0, 3.0]])
        logs = log_softmax(list(self.SCORES))
        expected = (logs[0] + 3 * logs[2]) / 4
        assert float(log_likelihood(scores, labels)[0]) == pytest.approx(expected)


lists = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-6, 6, width=32), min_size=n, max_size=n),
        st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n),
        st.integers(1, 4),
    )
)


@pytest.mark.parametrize("loss", LOSSES)
class TestEvery:
    @settings(max_examples=50)
    @given(lists)
    def test_padding_has_no_loss_and_no_gradient(
        self, loss: Loss, made: tuple[list[float], list[float], int]
    ) -> None:
        values, liked, width = made
        scores, labels = torch.tensor([values]), torch.tensor([liked])
        padded = functional.pad(scores, (0, width), value=-torch.inf)
        wider = functional.pad(labels, (0, width))
        torch.testing.assert_close(loss(padded, wider), loss(scores, labels))
        found = gradient(loss, padded, wider)
        assert (found[:, len(values) :] == 0).all()
        torch.testing.assert_close(found[:, : len(values)], gradient(loss, scores, labels))

    @settings(max_examples=50)
    @given(lists)
    def test_is_finite_and_never_below_0(
        self, loss: Loss, made: tuple[list[float], list[float], int]
    ) -> None:
        scores, labels = torch.tensor([made[0]]), torch.tensor([made[1]])
        assert loss(scores, labels).isfinite().all() and (loss(scores, labels) > -1e-6).all()
        assert gradient(loss, scores, labels).isfinite().all()

    def test_all_negative_scores_teach(self, loss: Loss) -> None:
        """Every item, however low all of them are: liked ones up, the others down."""
        scores = torch.tensor([[-5.0, -7.0, -6.0, -5.5], [-20.0, -21.0, -20.5, -22.0]])
        labels = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
        found, wanted = gradient(loss, scores, labels), labels > 0
        assert (found[~wanted] > 0).all()
        assert (found.where(wanted, 0.0).sum(1) < 0).all()
        assert (found != 0).all()

    def test_a_step_down_the_gradient_raises_the_liked(self, loss: Loss) -> None:
        scores = torch.zeros(1, 5)
        labels = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0]])
        after = scores - 0.1 * gradient(loss, scores, labels)
        assert after[labels > 0].min() > after[labels == 0].max()
        assert loss(after, labels) < loss(scores, labels)

    def test_each_list_has_its_own_loss(self, loss: Loss) -> None:
        scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
        labels = (scores.flip(0) > 0).float()
        alone = [loss(scores[row : row + 1], labels[row : row + 1]) for row in range(6)]
        torch.testing.assert_close(loss(scores, labels), torch.cat(alone))

    def test_extreme_scores_stay_finite(self, loss: Loss) -> None:
        scores, labels = torch.tensor([[80.0, -80.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
        assert loss(scores, labels).isfinite().all()
        assert gradient(loss, scores, labels).isfinite().all()
        assert gradient(loss, scores, labels)[0, 1] < 0


class TestWithoutPositive:
    """Shares of nothing: the losses of shares are 0, that of single items is not."""

    SCORES = torch.tensor([[0.5, -0.5, 1.0, -torch.inf]])
    LABELS = torch.zeros(1, 4)

    @pytest.mark.parametrize("loss", [listwise, likelihood_of_clicks, attention_rank])
    def test_shares(self, loss: Loss) -> None:
        assert loss(self.SCORES, self.LABELS).tolist() == [0.0]
        assert gradient(loss, self.SCORES, self.LABELS).tolist() == [[0.0] * 4]

    def test_single_items(self) -> None:
        assert pointwise(self.SCORES, self.LABELS)[0] > 0
        assert (gradient(pointwise, self.SCORES, self.LABELS)[0, :3] > 0).all()


@pytest.mark.parametrize("loss", [listwise, likelihood_of_clicks, attention_rank])
def test_losses_of_shares_do_not_see_a_shift(loss: Loss) -> None:
    scores = torch.tensor([[0.5, -0.5, 1.0]])
    labels = torch.tensor([[1.0, 0.0, 1.0]])
    torch.testing.assert_close(loss(scores + 7, labels), loss(scores, labels))


def kar_attention(scores: Tensor, temperature: float) -> Tensor:
    """KAR's shares of attention: exp above 0, else 0, divided by their sum."""
    cut = torch.where(scores > 0, (scores / temperature).exp(), 0.0)
    return cut / (cut.sum(-1, keepdim=True) + 1e-20)


def kar_loss(scores: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """KAR's loss of SetRank, [B]: element-wise cross-entropy of both attentions, the mean."""
    found, wanted = kar_attention(scores, temperature), kar_attention(labels, temperature)
    return functional.binary_cross_entropy(found, wanted, reduction="none").mean(-1)


class TestAgainstKar:
    @pytest.fixture
    def given_lists(self, kar: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return (
            torch.tensor(kar["logits"], dtype=torch.float64),
            torch.tensor(kar["labels"], dtype=torch.float64),
        )

    @pytest.mark.parametrize("number", [0, 1])
    def test_its_definition_gives_its_numbers(
        self, kar: dict[str, Any], given_lists: tuple[Tensor, Tensor], number: int
    ) -> None:
        """So that what follows compares with the code as it is."""
        case, (scores, labels) = kar["cases"][number], given_lists
        found = kar_loss(scores, labels, case["temperature"])
        np.testing.assert_allclose(found, case["per_list_loss"], rtol=1e-6)
        np.testing.assert_allclose(float(found.mean()), case["loss"], rtol=1e-6)
        slopes = gradient(lambda s, y: kar_loss(s, y, case["temperature"]), scores, labels)
        np.testing.assert_allclose(slopes / len(scores), case["grad"], rtol=1e-4, atol=1e-7)

    def test_pointwise_is_its_cross_entropy(
        self, kar: dict[str, Any], given_lists: tuple[Tensor, Tensor]
    ) -> None:
        found = pointwise(*given_lists)
        assert float(found.mean()) == pytest.approx(kar["bce_sigmoid_loss"], rel=1e-6)

    def test_ours_teaches_where_its_own_does_not(self, given_lists: tuple[Tensor, Tensor]) -> None:
        scores, labels = given_lists
        positive = labels.sum(1) > 0
        ours, theirs = gradient(attention_rank, *given_lists), gradient(kar_loss, *given_lists)
        assert (scores <= 0).sum() > 20
        assert (theirs[scores <= 0] == 0).all()
        assert (theirs[1] == 0).all() and labels[1].sum() == 1  # all scores of the list are below 0
        assert (ours[positive] != 0).all()

    def test_both_are_the_same_above_0(self, given_lists: tuple[Tensor, Tensor]) -> None:
        """The cut is all that sets them apart: where it cuts nothing, theirs is ours by n."""
        scores, labels = given_lists
        positive = labels.sum(1) > 0
        above = scores + 5.0
        assert (above > 0).all()
        expected = kar_loss(above, labels) * scores.shape[1]
        torch.testing.assert_close(attention_rank(above, labels)[positive], expected[positive])
        torch.testing.assert_close(attention_rank(scores, labels)[positive], expected[positive])

    def test_a_list_without_a_positive_costs_theirs_alone(
        self, given_lists: tuple[Tensor, Tensor]
    ) -> None:
        scores, labels = given_lists
        assert labels[0].sum() == 0
        assert kar_loss(scores, labels)[0] > 0
        assert attention_rank(scores, labels)[0] == 0
