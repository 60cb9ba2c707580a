from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from rec.config import BACKBONES
from rec.errors import RecError
from rec.rerank import training
from rec.rerank.features import Features, Knowledge
from rec.rerank.inputs import Inputs
from rec.rerank.ranking import judge, positive_rows, user_means
from rec.rerank.training import Epoch, Trained, Trainer
from tests.rerank.builders import (
    KINDS,
    World,
    dtypes_of,
    fit,
    fresh,
    lists_of,
    random_vectors,
    ranker,
    rows_of_test,
    world,
)

SHORT = ranker(epochs=3)


def score_on_test(features: Features, knowledge: Knowledge | None, trained: Trained) -> float:
    judged = judge(trained.model, features, knowledge, rows_of_test(features))
    return float(user_means(features, judged).mean())


def weights(trained: Trained) -> list[list[float]]:
    return [value.flatten().tolist() for value in trained.model.state_dict().values()]


@pytest.fixture(scope="module")
def small() -> World:
    return world(users=30, lists=3, samples=3)


class TestTraining:
    @pytest.mark.parametrize("backbone", BACKBONES)
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_the_same_arguments_give_the_same_weights(
        self, small: World, backbone: str, precision: str
    ) -> None:
        features = small.features()
        knowledge = small.told(features, "both")
        config = replace(SHORT, dropout=0.2, precision=precision)
        first, second = (fit(features, knowledge, config, 1, backbone) for _ in range(2))
        assert weights(first) == weights(second)
        assert first.curve == second.curve
        assert weights(fit(features, knowledge, config, 2, backbone)) != weights(first)

    def test_leaves_the_global_random_state_alone(self, small: World) -> None:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        fit(small.features(), None)
        torch.testing.assert_close(torch.rand(3), expected)

    def test_does_not_depend_on_the_global_random_state(self, small: World) -> None:
        features = small.features()
        first = fit(features, small.knowledge(features))
        torch.manual_seed(99)
        torch.rand(7)
        assert weights(fit(features, small.knowledge(features))) == weights(first)

    @pytest.mark.parametrize("kind", KINDS)
    def test_test_users_never_influence_the_weights(self, small: World, kind: str) -> None:
        """Neither their lists nor what is said about them."""
        test = pl.col("split") == "test"
        turned = small.lists.with_columns(
            labels=pl.when(test).then(pl.col("labels").list.reverse()).otherwise("labels")
        )
        users = small.lists.filter(test)["user"].unique()
        keys = [f"user:{user}" for user in users]
        told, histories = (
            table.with_columns(
                vector=pl.when(pl.col("key").is_in(keys))
                .then(random_vectors(small)["vector"].head(table.height))
                .otherwise("vector")
            )
            for table in (small.user_vectors, small.history_vectors)
        )
        assert not told.equals(small.user_vectors)
        other = replace(small, lists=turned, user_vectors=told, history_vectors=histories)
        features, changed = small.features(), other.features()
        assert not torch.equal(features.labels, changed.labels)
        plain = weights(fit(features, small.told(features, kind)))
        assert weights(fit(changed, other.told(changed, kind))) == plain

    def test_validation_users_never_influence_the_weights_of_an_epoch(self, small: World) -> None:
        """They choose the epoch, and nothing else."""
        valid = pl.col("split") == "valid"
        turned = small.lists.with_columns(
            labels=pl.when(valid).then(pl.col("labels").list.reverse()).otherwise("labels")
        )
        features, other = small.features(), replace(small, lists=turned).features()
        config = ranker(epochs=1)
        plain, changed = fit(features, None, config), fit(other, None, config)
        assert plain.curve[0].valid_ndcg != changed.curve[0].valid_ndcg
        assert weights(plain) == weights(changed)

    def test_validation_users_count_with_their_first_response(self, small: World) -> None:
        features = small.features()
        keys = [f"user:{user}" for user in features.users_of("valid")]
        later = pl.col("key").is_in(keys) & (pl.col("sample") > 0)
        plain, alone = (
            fit(features, small.knowledge(features, table))
            for table in (small.user_vectors, small.user_vectors.filter(~later))
        )
        assert plain.curve == alone.curve
        assert weights(plain) == weights(alone)

    def test_learns_from_every_response(self) -> None:
        made = world(users=10, lists=3, samples=4)
        features = made.features()
        knowledge = made.knowledge(features)
        seen: set[int] = set()
        rows = torch.arange(len(features.lists))
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            uniform = torch.rand(len(rows), generator=generator)
            drawn = training._draw(features, knowledge, rows, uniform)
            assert drawn is not None and knowledge.first is not None
            owner = features.list_user[rows]
            assert ((drawn >= knowledge.first[owner]) & (drawn < knowledge.first[owner] + 4)).all()
            seen |= set(drawn.tolist())
        assert seen == set(range(40))

    def test_knowledge_is_prepared_once(
        self, small: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not once per batch or per epoch: it is most of the work that is left."""
        calls = []
        prepared = Inputs.prepared

        def spy(inputs: Inputs, knowledge: Knowledge | None) -> Knowledge | None:
            calls.append(knowledge)
            return prepared(inputs, knowledge)

        monkeypatch.setattr(Inputs, "prepared", spy)
        features = small.features()
        knowledge = small.knowledge(features)
        trained = fit(features, knowledge, ranker(epochs=3, batch_size=8))
        assert len(trained.curve) == 3 and calls == [knowledge]
        judge(trained.model, features, knowledge, rows_of_test(features))
        assert len(calls) == 2

    def test_means_of_texts_are_those_of_train_users(self, small: World) -> None:
        features = small.features()
        knowledge = small.told(features, "both")
        assert knowledge is not None and knowledge.users is not None
        trained = fit(features, knowledge, ranker(epochs=1))
        split = dict(zip(features.users, features.splits, strict=True))
        own = [n for n, user in enumerate(features.users) for _ in range(3) if split[user]]
        learned = [r for r, n in enumerate(own) if features.splits[n] == "train"]
        mean = trained.model.inputs.adaptor.mean
        torch.testing.assert_close(mean[1:], knowledge.users[learned].float().mean(0))
        torch.testing.assert_close(mean[0], knowledge.items[1:].float().mean(0))

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_a_loss_that_is_not_finite(self, small: World, precision: str) -> None:
        config = ranker(learning_rate=1e30, batch_size=8, precision=precision)
        with pytest.raises(RecError, match=r"loss is .* lower ranker\.learning_rate") as found:
            fit(small.features(), None, config)
        assert "\n" not in str(found.value)

    @pytest.mark.parametrize(("split", "name"), [("train", "training"), ("valid", "validation")])
    def test_lists_without_a_positive(self, small: World, split: str, name: str) -> None:
        labels = pl.col("labels")
        empty = small.lists.with_columns(
            labels=pl.when(split=split).then(labels.list.eval(pl.element() * 0)).otherwise(labels)
        )
        with pytest.raises(RecError, match=f"no list of the {name} users"):
            fit(replace(small, lists=empty).features(), None)


class TestEarlyStopping:
    def test_the_best_epoch_is_kept(self, small: World) -> None:
        features = small.features()
        config = ranker(epochs=12, patience=2, learning_rate=0.05)
        trained = fit(features, None, config)
        scores = [point.valid_ndcg for point in trained.curve]
        assert trained.best.valid_ndcg == max(scores)
        assert trained.best.epoch == scores.index(max(scores)) + 1
        assert len(scores) in (12, trained.best.epoch + 2)
        rows = positive_rows(features, features.users_of("valid"), "validation")
        again = user_means(features, judge(trained.model, features, None, rows)).mean()
        assert again == pytest.approx(trained.best.valid_ndcg, abs=1e-12)
        assert not trained.model.training

    @pytest.mark.parametrize(
        ("values", "patience", "epochs", "best"),
        [
            ([0.1, 0.2, 0.3, 0.4], 1, 4, 4),
            ([0.5, 0.4, 0.6, 0.6, 0.6, 0.9], 2, 5, 3),
            ([0.5, 0.5, 0.5], 1, 2, 1),
            ([0.5, 0.1, 0.1, 0.1, 0.6], 3, 4, 1),
            ([0.0, 0.0], 5, 2, 1),
        ],
    )
    def test_patience(
        self,
        small: World,
        monkeypatch: pytest.MonkeyPatch,
        values: list[float],
        patience: int,
        epochs: int,
        best: int,
    ) -> None:
        """It ends after so many epochs that are not better than the best; of equals the first."""
        told = iter(values)
        kept: list[Any] = []

        def worth(*arguments: Any) -> Any:
            return np.array([next(told)])

        def epoch(trainer: Trainer, rows: torch.Tensor) -> float:
            bias = trainer.model.inputs.candidate.bias
            kept.append(bias.detach().clone())
            with torch.no_grad():
                bias.add_(1.0)
            return 0.0

        monkeypatch.setattr(training, "user_means", worth)
        monkeypatch.setattr(Trainer, "epoch", epoch)
        config = ranker(epochs=len(values), patience=patience)
        trained = fit(small.features(), None, config)
        assert [point.epoch for point in trained.curve] == list(range(1, epochs + 1))
        assert trained.best == Epoch(best, 0.0, max(values[:epochs]))
        torch.testing.assert_close(trained.model.inputs.candidate.bias, kept[best - 1] + 1.0)

    def test_as_json(self) -> None:
        curve = [Epoch(1, 2.0, 0.5), Epoch(2, 1.0, 0.6)]
        assert Trained(None, curve, curve[1]).as_json() == {  # type: ignore[arg-type]
            "best_epoch": 2,
            "valid_ndcg@5": 0.6,
            "curve": [
                {"epoch": 1, "train_loss": 2.0, "valid_ndcg@5": 0.5},
                {"epoch": 2, "train_loss": 1.0, "valid_ndcg@5": 0.6},
            ],
        }


class TestPrecision:
    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_bf16_reaches_what_fp32_reaches(self, backbone: str) -> None:
        made = world(users=150, lists=6, samples=2, noise=0.4)
        features = made.features()
        knowledge = made.told(features, "both")
        scores = [
            score_on_test(
                features, knowledge, fit(features, knowledge, ranker(precision=p), 1, backbone)
            )
            for p in ("fp32", "bf16")
        ]
        assert min(scores) > 0.75  # chance reaches 0.5
        assert abs(scores[0] - scores[1]) < 0.04

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_training_is_in_what_is_asked_for(self, small: World, precision: str) -> None:
        features = small.features()
        knowledge = small.told(features, "both")
        model = fresh(features, knowledge, "prm", ranker(precision=precision)).train()
        computed = dtypes_of(model)
        lists = lists_of(model, features, knowledge, torch.arange(12))
        assert model(lists).dtype == torch.float32
        assert (torch.bfloat16 in computed) == (precision == "bf16")
