from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from rec.errors import RecError
from rec.files import write_json
from rec.rerank.features import Features, Knowledge
from rec.rerank.reranker import save
from rec.reward import (
    RewardModel,
    describe,
    fold_of,
    fold_users,
    judge_users,
    load_models,
    mean_over_folds,
    score_fold,
    score_valid,
    train_fold,
    weights_path,
)
from rec.tables import ALL_FOLDS, SCORES, check_schema
from tests.rerank.builders import ranker, world

FOLDS, SEED = 2, 11


@pytest.fixture(scope="module")
def data() -> tuple[Features, Knowledge]:
    made = world(users=150, lists=6, samples=3, noise=0.1)
    features = made.features()
    return features, made.knowledge(features)


@pytest.fixture(scope="module")
def models(data: tuple[Features, Knowledge]) -> list[RewardModel]:
    return [
        train_fold(*data, ranker(epochs=8), "prm", SEED, fold, FOLDS)[0] for fold in range(FOLDS)
    ]


@pytest.fixture(scope="module")
def scores(data: tuple[Features, Knowledge], models: list[RewardModel]) -> pl.DataFrame:
    return pl.concat([score_fold(model, *data) for model in models]).sort("user", "sample")


def with_positive(features: Features, split: str) -> list[str]:
    """The users of a split with a positive list."""
    has_positive = {features.users[n] for n in features.list_user[features.positive].tolist()}
    return [user for user in features.users_of(split) if user in has_positive]


class TestFolds:
    def test_stable_and_about_even(self) -> None:
        assert [fold_of(1, f"u{n}", 4) for n in range(6)] == [
            fold_of(1, f"u{n}", 4) for n in range(6)
        ]
        counts = np.bincount([fold_of(1, f"u{n}", 4) for n in range(4000)])
        assert (np.abs(counts - 1000) < 120).all()
        assert any(fold_of(1, f"u{n}", 4) != fold_of(2, f"u{n}", 4) for n in range(20))

    def test_known_values_on_every_machine(self) -> None:
        assert [fold_of(2026, user, 4) for user in ("1", "2", "3", "4", "5")] == [1, 0, 2, 1, 0]

    def test_too_many_folds_for_the_users(self) -> None:
        made = world(users=5)
        features = made.features()
        one = [u for u in features.users_of("train") if fold_of(SEED, u, 2) == 1]
        lists = made.lists.filter((pl.col("split") != "train") | pl.col("user").is_in(one))
        alone = replace(made, lists=lists)
        features = alone.features()
        with pytest.raises(RecError, match=r"reward\.folds: fold 1 of 2"):
            train_fold(features, alone.knowledge(features), ranker(), "prm", SEED, 1, 2)


class TestScores:
    def test_every_train_user_once_by_the_model_that_never_saw_them(
        self, data: tuple[Features, Knowledge], scores: pl.DataFrame
    ) -> None:
        features, _ = data
        check_schema(scores, SCORES, "scores")
        expected = with_positive(features, "train")
        assert scores["user"].unique().sort().to_list() == expected
        assert scores.select("user", "sample").n_unique() == scores.height == 3 * len(expected)
        for user, fold in scores.select("user", "fold").iter_rows():
            assert fold == fold_of(SEED, user, FOLDS)

    def test_a_clearer_response_is_worth_more(self, scores: pl.DataFrame) -> None:
        means = scores.drop("user").group_by("sample").mean().sort("sample")
        assert means["ndcg@5"][0] > means["ndcg@5"][2]
        assert means["log_likelihood"][0] > means["log_likelihood"][2]

    def test_values_by_hand(
        self, data: tuple[Features, Knowledge], models: list[RewardModel], scores: pl.DataFrame
    ) -> None:
        user = fold_users(data[0], models[1])[0]
        judged = judge_users(models[1], *data, [user])
        own = scores.filter(pl.col("user") == user)
        numbers = np.unique(judged.responses)
        for row, number in zip(own.iter_rows(named=True), numbers, strict=True):
            mine = judged.responses == number
            assert row["lists"] == mine.sum()
            assert row["ndcg@5"] == pytest.approx(judged.ndcg[mine].mean())
            assert row["map@5"] == pytest.approx(judged.average_precision[mine].mean())
            assert row["log_likelihood"] == pytest.approx(judged.log_likelihood[mine].mean())

    def test_test_users_are_refused(
        self, data: tuple[Features, Knowledge], models: list[RewardModel]
    ) -> None:
        for user in data[0].users_of("test"):
            with pytest.raises(RecError, match="must not score user"):
                judge_users(models[0], *data, [user])

    def test_users_it_learned_from_are_refused(
        self, data: tuple[Features, Knowledge], models: list[RewardModel]
    ) -> None:
        for user in fold_users(data[0], models[1]):
            with pytest.raises(RecError, match="must not score user"):
                judge_users(models[0], *data, [user])


class TestValidationUsers:
    @pytest.fixture(scope="class")
    def both(self, data: tuple[Features, Knowledge], models: list[RewardModel]) -> pl.DataFrame:
        """What the stage writes: train users by their fold, validation users by all."""
        kinds = (score_fold, score_valid)
        return mean_over_folds([pl.concat([s(model, *data) for s in kinds]) for model in models])

    def test_all_responses_have_the_mean_of_all_models(
        self, data: tuple[Features, Knowledge], models: list[RewardModel], both: pl.DataFrame
    ) -> None:
        check_schema(both, SCORES, "scores")
        features, knowledge = data
        valid = both.filter(pl.col("fold") == ALL_FOLDS)
        users = with_positive(features, "valid")
        assert valid["user"].unique().sort().to_list() == users
        assert valid.select("user", "sample").n_unique() == valid.height == 3 * len(users)
        first, second = (score_valid(model, features, knowledge) for model in models)
        assert not first["ndcg@5"].equals(second["ndcg@5"])
        for name in ("ndcg@5", "map@5", "log_likelihood"):
            mean = (first[name] + second[name]) / 2
            np.testing.assert_allclose(valid[name], mean, rtol=1e-12)
        assert valid["lists"].equals(first["lists"])

    def test_train_users_are_scored_as_without_them(
        self, both: pl.DataFrame, scores: pl.DataFrame
    ) -> None:
        train = both.filter(pl.col("fold") != ALL_FOLDS)
        assert train.equals(scores.select(train.columns))

    def test_nobody_else_is_scored(
        self, data: tuple[Features, Knowledge], both: pl.DataFrame
    ) -> None:
        assert not set(both["user"]) & set(data[0].users_of("test"))
        assert both.select("user", "sample").is_unique().all()

    def test_the_order_of_the_models_does_not_count(
        self, data: tuple[Features, Knowledge], models: list[RewardModel]
    ) -> None:
        tables = [score_valid(model, *data) for model in models]
        assert mean_over_folds(tables).equals(mean_over_folds(tables[::-1]))

    def test_extra_responses_of_theirs_change_no_model(self) -> None:
        made = world(users=40, samples=2)
        features = made.features()
        valid = [f"user:{user}" for user in features.users_of("valid")]
        single = made.user_vectors.filter(~pl.col("key").is_in(valid) | (pl.col("sample") == 0))
        several, alone = made.knowledge(features), made.knowledge(features, single)
        (first, curve), (second, other) = (
            train_fold(features, knowledge, ranker(epochs=4), "mir", SEED, 0, FOLDS)
            for knowledge in (several, alone)
        )
        assert curve.as_json() == other.as_json()
        kept = score_fold(second, features, alone)
        assert score_fold(first, features, several).equals(kept)
        assert score_valid(first, features, several).height == 2 * len(
            score_valid(second, features, alone)
        )


class TestFiles:
    def test_round_trip(
        self,
        data: tuple[Features, Knowledge],
        models: list[RewardModel],
        scores: pl.DataFrame,
        tmp_path: Path,
    ) -> None:
        for model in models:
            save(model.model, weights_path(tmp_path, model.fold))
        write_json(tmp_path / "reward.json", describe(SEED, FOLDS, 1, []))
        again = pl.concat([score_fold(model, *data) for model in load_models(tmp_path)])
        assert again.sort("user", "sample").equals(scores)

    @pytest.mark.parametrize(
        "content", [{}, {"seed": "x", "folds": 2}, {"seed": 1, "folds": 2}, []]
    )
    def test_a_broken_description(self, tmp_path: Path, content: Any) -> None:
        write_json(tmp_path / "reward.json", content)
        with pytest.raises(RecError, match="'seed', 'folds' and 'per_fold'"):
            load_models(tmp_path)
