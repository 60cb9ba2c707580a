from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from rec.config import BACKBONES
from rec.rerank import ranking
from rec.rerank.features import Features, Knowledge
from rec.rerank.losses import log_likelihood
from rec.rerank.metrics import average_precision, ndcg
from rec.rerank.ranking import judge, judge_pairs, rank, user_means, user_table
from rec.rerank.training import Trained
from tests.rerank.builders import World, dtypes_of, fit, fresh, ranker, rows_of_test, world


@pytest.fixture(scope="module")
def small() -> World:
    return world(users=30, lists=3, samples=3)


class TestJudge:
    @pytest.fixture(scope="class")
    def trained(self, small: World) -> tuple[Trained, Features, Knowledge]:
        features = small.features()
        knowledge = small.knowledge(features)
        return fit(features, knowledge, ranker(epochs=1)), features, knowledge

    def test_every_response_of_every_list_once(
        self, trained: tuple[Trained, Features, Knowledge]
    ) -> None:
        found, features, knowledge = trained
        rows = rows_of_test(features)
        judged = judge(found.model, features, knowledge, rows)
        pairs = list(zip(judged.rows.tolist(), judged.responses.tolist(), strict=True))
        assert knowledge.first is not None
        assert pairs == [
            (row, int(knowledge.first[features.list_user[row]]) + sample)
            for row in rows.tolist()
            for sample in range(3)
        ]

    def test_measures_are_those_of_the_scores(
        self, trained: tuple[Trained, Features, Knowledge]
    ) -> None:
        found, features, knowledge = trained
        ranked = rank(found.model, features, knowledge, rows_of_test(features))
        judged = judge(found.model, features, knowledge, rows_of_test(features))
        labels = features.labels[torch.from_numpy(ranked.rows)]
        assert torch.equal(ranked.labels, labels)
        np.testing.assert_array_equal(judged.ndcg, ndcg(ranked.scores, labels, 5))
        expected = average_precision(ranked.scores, labels, 5)
        np.testing.assert_array_equal(judged.average_precision, expected)
        np.testing.assert_allclose(judged.log_likelihood, log_likelihood(ranked.scores, labels))

    def test_pairs_are_judged_as_all_are(
        self, trained: tuple[Trained, Features, Knowledge]
    ) -> None:
        """The same lists and responses in any order have the same worth."""
        found, features, knowledge = trained
        whole = judge(found.model, features, knowledge, rows_of_test(features))
        order = np.random.default_rng(0).permutation(len(whole.rows))
        rows, responses = (torch.from_numpy(v[order]) for v in (whole.rows, whole.responses))
        pairs = judge_pairs(found.model, features, knowledge, rows, responses)
        np.testing.assert_array_equal(pairs.rows, whole.rows[order])
        np.testing.assert_array_equal(pairs.responses, whole.responses[order])
        np.testing.assert_array_equal(pairs.ndcg, whole.ndcg[order])
        np.testing.assert_array_equal(pairs.average_precision, whole.average_precision[order])
        np.testing.assert_allclose(pairs.log_likelihood, whole.log_likelihood[order], rtol=1e-4)

    def test_a_response_of_somebody_else_is_another_input(
        self, trained: tuple[Trained, Features, Knowledge]
    ) -> None:
        found, features, knowledge = trained
        rows = rows_of_test(features)[:1].repeat(90)
        judged = judge_pairs(found.model, features, knowledge, rows, torch.arange(90))
        assert len(np.unique(judged.log_likelihood)) > 60

    def test_parts_do_not_matter(
        self, trained: tuple[Trained, Features, Knowledge], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found, features, knowledge = trained
        whole = rank(found.model, features, knowledge, rows_of_test(features)).scores
        monkeypatch.setattr(ranking, "EVALUATION_ROWS", 7)
        parts = rank(found.model, features, knowledge, rows_of_test(features)).scores
        torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)

    def test_without_responses_each_list_is_judged_once(self, small: World) -> None:
        features = small.features()
        for kind in ("none", "items"):
            knowledge = small.told(features, kind)
            model = fit(features, knowledge, ranker(epochs=1)).model
            judged = judge(model, features, knowledge, rows_of_test(features))
            assert judged.rows.tolist() == rows_of_test(features).tolist()
            assert (judged.responses == -1).all()

    def test_means_are_over_a_users_lists_first(
        self, trained: tuple[Trained, Features, Knowledge]
    ) -> None:
        found, features, knowledge = trained
        judged = judge(found.model, features, knowledge, rows_of_test(features))
        owner = features.list_user.numpy()[judged.rows]
        expected = [judged.ndcg[owner == user].mean() for user in np.unique(owner)]
        np.testing.assert_allclose(user_means(features, judged), expected)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_ranking_is_fp32_whatever_training_is(small: World, backbone: str) -> None:
    features = small.features()
    knowledge = small.told(features, "both")
    model = fit(features, knowledge, ranker(epochs=1, precision="bf16"), 1, backbone).model
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    computed = dtypes_of(model)
    low = rank(model, features, knowledge, rows_of_test(features)).scores
    assert computed == {torch.float32} and low.dtype == torch.float32
    model.config = replace(model.config, precision="fp32")
    assert torch.equal(rank(model, features, knowledge, rows_of_test(features)).scores, low)


def test_a_users_row_is_the_mean_over_lists_and_responses() -> None:
    made = world(users=40, lists=3, samples=2)
    features = made.features()
    knowledge = made.knowledge(features)
    model = fresh(features, knowledge, "prm", disturbed=0.1)
    judged = judge(model, features, knowledge, rows_of_test(features))
    user = features.users_of("test")[0]
    own = features.list_user.numpy()[judged.rows] == features.user_numbers[user]
    table = user_table(features, judged)
    assert own.sum() > 2 and table["user"].is_unique().all()
    row = table.row(by_predicate=pl.col("user") == user, named=True)
    assert row["split"] == "test"
    assert row["ndcg@5"] == pytest.approx(float(judged.ndcg[own].mean()))
    assert row["log_likelihood"] == pytest.approx(float(judged.log_likelihood[own].mean()))
