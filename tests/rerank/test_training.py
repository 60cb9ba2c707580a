import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from rec.config import Ranker
from rec.errors import RecError
from rec.rerank.features import Features, Knowledge, build_features
from rec.rerank.metrics import average_precision, ndcg
from rec.rerank.training import Trained, judge, load, positive_rows, save, train, user_means
from rec.rerank.variants import as_shown, by_popularity, policy_of, runs_table
from tests.prepared import FILMS, prepare_rows, regular
from tests.rerank.builders import World, random_vectors, ranker, world

SHORT = ranker(epochs=3)


def fit(
    features: Features, knowledge: Knowledge | None, config: Ranker = SHORT, seed: int = 1
) -> Trained:
    train_users, valid_users = features.users_of("train"), features.users_of("valid")
    return train(features, knowledge, config, seed, train_users, valid_users)


def score_on_test(features: Features, knowledge: Knowledge | None, trained: Trained) -> float:
    rows = positive_rows(features, features.users_of("test"), "test")
    return float(user_means(features, judge(trained.model, features, knowledge, rows)).mean())


def weights(trained: Trained) -> list[list[float]]:
    return [value.flatten().tolist() for value in trained.model.state_dict().values()]


@pytest.fixture(scope="module")
def small() -> World:
    return world(users=30, lists=3, samples=3)


class TestPlantedSignal:
    """Only the users' text vectors tell which items they like."""

    @pytest.fixture(scope="class")
    def scores(self) -> dict[str, float]:
        made = world(users=250, lists=6)
        features = made.features()
        kinds = {
            "none": None,
            "items": made.item_knowledge(features),
            "told": made.knowledge(features),
            "random": made.knowledge(features, random_vectors(made)),
        }
        return {
            kind: score_on_test(features, knowledge, fit(features, knowledge, ranker()))
            for kind, knowledge in kinds.items()
        }

    def test_knowledge_beats_none(self, scores: dict[str, float]) -> None:
        assert scores["told"] > 0.9
        assert scores["told"] > scores["none"] + 0.2

    def test_random_vectors_do_not(self, scores: dict[str, float]) -> None:
        assert scores["random"] < scores["told"] - 0.2
        assert abs(scores["random"] - scores["none"]) < 0.15
        assert abs(scores["random"] - scores["items"]) < 0.1


class TestTraining:
    def test_the_same_seed_gives_the_same_weights(self, small: World) -> None:
        features = small.features()
        knowledge = small.knowledge(features)
        config = replace(SHORT, dropout=0.2)
        first, second = (fit(features, knowledge, config) for _ in range(2))
        assert weights(first) == weights(second)
        assert first.curve == second.curve
        assert weights(fit(features, knowledge, config, seed=2)) != weights(first)

    def test_leaves_the_global_random_state_alone(self, small: World) -> None:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        fit(small.features(), None)
        torch.testing.assert_close(torch.rand(3), expected)

    def test_test_users_never_influence_the_weights(self, small: World) -> None:
        test = pl.col("split") == "test"
        turned = small.lists.with_columns(
            labels=pl.when(test).then(pl.col("labels").list.reverse()).otherwise("labels")
        )
        users = small.lists.filter(test)["user"].unique()
        keys = [f"user:{user}" for user in users]
        told = small.user_vectors.with_columns(
            vector=pl.when(pl.col("key").is_in(keys))
            .then(random_vectors(small)["vector"])
            .otherwise("vector")
        )
        features, other = small.features(), replace(small, lists=turned).features()
        assert not torch.equal(features.labels, other.labels)
        changed = small.knowledge(other, told)
        plain = small.knowledge(features)
        assert weights(fit(features, plain)) == weights(fit(other, changed))

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

    def test_learns_from_every_response(self) -> None:
        made = world(users=10, lists=3, samples=4)
        features = made.features()
        knowledge = made.knowledge(features)
        seen: set[int] = set()
        from rec.rerank import training

        rows = torch.arange(len(features.lists))
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            drawn = training._draw(
                features, knowledge, rows, torch.rand(len(rows), generator=generator)
            )
            assert drawn is not None and knowledge.first is not None and knowledge.count is not None
            owner = features.list_user[rows]
            assert ((drawn >= knowledge.first[owner]) & (drawn < knowledge.first[owner] + 4)).all()
            seen |= set(drawn.tolist())
        assert seen == set(range(40))

    def test_a_loss_that_is_not_finite(self, small: World) -> None:
        with pytest.raises(RecError, match=r"loss is .* lower ranker\.learning_rate"):
            fit(small.features(), None, ranker(learning_rate=1e30, batch_size=8))

    def test_lists_without_a_positive(self, small: World) -> None:
        empty = small.lists.with_columns(labels=pl.col("labels").list.eval(pl.element() * 0))
        with pytest.raises(RecError, match="no list of the training users"):
            fit(replace(small, lists=empty).features(), None)


class TestJudge:
    def test_every_response_of_every_list_once(self, small: World) -> None:
        features = small.features()
        knowledge = small.knowledge(features)
        model = fit(features, knowledge, ranker(epochs=1)).model
        rows = positive_rows(features, features.users_of("test"), "test")
        judged = judge(model, features, knowledge, rows)
        pairs = sorted(zip(judged.rows.tolist(), judged.responses.tolist(), strict=True))
        assert knowledge.first is not None
        expected = [
            (row, int(knowledge.first[features.list_user[row]]) + sample)
            for row in rows.tolist()
            for sample in range(3)
        ]
        assert pairs == sorted(expected)

    def test_a_run_holds_the_mean_over_responses(self, small: World) -> None:
        features = small.features()
        knowledge = small.knowledge(features)
        model = fit(features, knowledge, ranker(epochs=1)).model
        rows = positive_rows(features, features.users_of("test"), "test")
        judged = judge(model, features, knowledge, rows)
        runs = runs_table(features, judged, "0", 7)
        assert runs.height == len(rows)
        first = judged.ndcg[judged.rows == int(rows[0])]
        name = features.lists[int(rows[0])]
        assert runs.filter(pl.col("list") == name)["ndcg@5"][0] == pytest.approx(first.mean())

    def test_shown_is_the_order_of_the_list(self, small: World) -> None:
        features = small.features()
        rows = positive_rows(features, features.users_of("test"), "test")
        judged = as_shown(features, rows)
        labels = features.labels[rows].numpy()
        falling = np.tile(-np.arange(labels.shape[1]), (len(labels), 1))
        np.testing.assert_array_equal(judged.ndcg, ndcg(falling, labels, 5))
        np.testing.assert_array_equal(
            judged.average_precision, average_precision(falling, labels, 5)
        )

    def test_popularity_is_the_rank_of_the_items(self, small: World) -> None:
        """Whatever the order of the lists: each list by its items' ranks, the same shown."""
        ranks = dict(small.items.select("item", "rank").iter_rows())
        rows = [
            list(zip(*sorted(zip(*row, strict=True), key=lambda c: ranks[c[0]]), strict=True))
            for row in small.lists.select("items", "labels").iter_rows()
        ]
        ordered = small.lists.with_columns(
            items=pl.Series([list(items) for items, _ in rows], dtype=pl.List(pl.String)),
            labels=pl.Series([list(labels) for _, labels in rows], dtype=pl.List(pl.Int8)),
        )
        features, by_rank = small.features(), replace(small, lists=ordered).features()
        test = positive_rows(features, features.users_of("test"), "test")
        found = by_popularity(features, test)
        for expected in (as_shown(by_rank, test), by_popularity(by_rank, test)):
            np.testing.assert_array_equal(found.ndcg, expected.ndcg)
            np.testing.assert_array_equal(found.average_precision, expected.average_precision)
        assert (found.ndcg != as_shown(features, test).ndcg).any()

    def test_lists_that_are_made_stand_by_popularity(self) -> None:
        made = prepare_rows(regular(), FILMS)
        features = build_features(made.items, made.interactions, made.lists, 5, (1.0, 5.0))
        every = torch.arange(len(features.lists))
        shown, popular = as_shown(features, every), by_popularity(features, every)
        np.testing.assert_array_equal(shown.ndcg, popular.ndcg)
        assert features.rank[features.items].diff(dim=1).min() > 0

    def test_padding_has_no_rank(self, small: World) -> None:
        """A list with a short one beside it is worth the same."""
        short = small.lists.with_columns(
            pl.when(pl.int_range(pl.len()) % 2 == 0)
            .then(pl.col(name).list.head(4))
            .otherwise(name)
            .alias(name)
            for name in ("items", "labels")
        )
        mixed = replace(small, lists=short).features()
        alone = replace(small, lists=short.gather_every(2)).features()
        for order in (as_shown, by_popularity):
            found = order(mixed, torch.arange(len(mixed.lists)))
            expected = order(alone, torch.arange(len(alone.lists)))
            np.testing.assert_array_equal(found.ndcg[::2], expected.ndcg)


class TestFiles:
    def test_round_trip(self, small: World, tmp_path: Path) -> None:
        features = small.features()
        knowledge = small.knowledge(features)
        trained = fit(features, knowledge, ranker(epochs=1))
        path = tmp_path / "model.safetensors"
        save(trained.model, path)
        rows = positive_rows(features, features.users_of("test"), "test")
        np.testing.assert_array_equal(
            judge(load(path, "cpu"), features, knowledge, rows).ndcg,
            judge(trained.model, features, knowledge, rows).ndcg,
        )

    def test_damage_is_one_line(self, small: World, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        save(fit(small.features(), None, ranker(epochs=1)).model, path)
        whole = path.read_bytes()
        path.write_bytes(whole[:100])
        with pytest.raises(RecError, match=r"model\.safetensors: not a re-ranker"):
            load(path, "cpu")
        path.write_bytes(whole)
        described = path.with_suffix(".json")
        values = json.loads(described.read_text())
        values["shape"]["items"] += 1
        described.write_text(json.dumps(values))
        with pytest.raises(RecError, match="not a re-ranker") as found:
            load(path, "cpu")
        assert "\n" not in str(found.value)
        described.unlink()
        with pytest.raises(RecError, match="no such file"):
            load(path, "cpu")


def test_variants() -> None:
    assert policy_of("1", [0, 1]) == 1
    assert policy_of("history", [0, 1]) is None
    assert policy_of("shown", [0, 1]) is None
    for name in ("2", "best", "-1"):
        with pytest.raises(RecError, match="shown, popularity, none, items, history, 0, 1"):
            policy_of(name, [0, 1])
