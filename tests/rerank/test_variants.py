from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rec.config import BASELINES, ORDERS
from rec.errors import RecError
from rec.rerank import variants
from rec.rerank.features import Features, build_features
from rec.rerank.metrics import ndcg
from rec.rerank.ranking import Ranked, judge, positive_rows, rank
from rec.rerank.variants import is_policy, ordered, runs_table
from rec.tables import NO_BACKBONE, NO_SAMPLE, NO_SEED, RUNS, check_schema
from tests.prepared import FILMS, prepare_rows, regular
from tests.rerank.builders import World, fresh, world


@pytest.fixture(scope="module")
def small() -> World:
    return world(users=30, lists=3, samples=3)


def shortened(made: World) -> World:
    """Every other list with its first 4 items alone."""
    short = made.lists.with_columns(
        pl.when(pl.int_range(pl.len()) % 2 == 0)
        .then(pl.col(name).list.head(4))
        .otherwise(name)
        .alias(name)
        for name in ("items", "labels")
    )
    return replace(made, lists=short)


def every(features: Features) -> torch.Tensor:
    return torch.arange(len(features.lists))


class TestVariants:
    def test_policies_and_baselines(self) -> None:
        assert is_policy("1", ["0", "1"]) and is_policy("sft", ["0", "sft"])
        assert not any(is_policy(name, ["0", "1"]) for name in BASELINES)
        assert not is_policy("none", [])

    @pytest.mark.parametrize("name", ["2", "best", "-1", "sft", "popularity", "shown", "", "01"])
    def test_others_are_refused(self, name: str) -> None:
        with pytest.raises(RecError, match="use one of none, noise, items, swapped, history, 0, 1"):
            is_policy(name, ["0", "1"])

    def test_each_has_its_name(self) -> None:
        names = variants.NONE, variants.NOISE, variants.ITEMS, variants.SWAPPED, variants.HISTORY
        assert names == BASELINES
        assert (variants.SHOWN, variants.POPULARITY, variants.RANDOM) == ORDERS


class TestOrders:
    def labels(self, made: World, order: str, seed: int = 1) -> dict[str, list[int]]:
        features = made.features()
        ranked = ordered(features, order, every(features), seed)
        assert (ranked.responses == -1).all()
        table = runs_table(features, None, ranked, variant=order, protocol="uniform")
        return dict(table.select("list", "labels").iter_rows())

    @pytest.mark.parametrize("short", [False, True])
    def test_shown_is_the_order_of_the_list(self, small: World, short: bool) -> None:
        made = shortened(small) if short else small
        expected = dict(made.lists.select("list", "labels").iter_rows())
        assert self.labels(made, "shown") == expected

    @pytest.mark.parametrize("short", [False, True])
    def test_popularity_is_the_rank_of_the_items(self, small: World, short: bool) -> None:
        """Whatever the order of the list."""
        made = shortened(small) if short else small
        ranks = dict(small.items.select("item", "rank").iter_rows())
        expected = {
            name: [label for _, label in sorted(zip(map(ranks.get, items), labels, strict=True))]
            for name, items, labels in made.lists.select("list", "items", "labels").iter_rows()
        }
        found = self.labels(made, "popularity")
        assert found == expected
        assert found != self.labels(made, "shown")

    def test_lists_that_are_made_stand_by_popularity(self) -> None:
        made = prepare_rows(regular(), FILMS)
        features = build_features(made.items, made.interactions, made.lists, 5, (1.0, 5.0))
        shown, popular = (
            ordered(features, order, every(features), 1) for order in ("shown", "popularity")
        )
        assert torch.equal(shown.scores.argsort(1), popular.scores.argsort(1))
        assert features.rank[features.items].diff(dim=1).min() > 0

    def test_random_is_another_order_for_each_list_and_seed(self, small: World) -> None:
        made = shortened(small)
        first, again, other = (self.labels(made, "random", seed) for seed in (1, 1, 2))
        assert first == again != other
        shown = self.labels(made, "shown")
        assert first != shown
        for name, labels in shown.items():
            assert sorted(first[name]) == sorted(labels)

    def test_random_is_even(self) -> None:
        """Every item of a list comes first equally often, and padding never."""
        features = shortened(world(users=400, lists=5)).features()
        ranked = ordered(features, "random", every(features), 3)
        first = ranked.scores.argmax(1)
        long = np.bincount(first[1::2], minlength=6) / 1000
        short = np.bincount(first[::2], minlength=6) / 1000
        np.testing.assert_allclose(long, 1 / 6, atol=0.05)
        np.testing.assert_allclose(short, [0.25] * 4 + [0, 0], atol=0.06)

    def test_leaves_the_global_random_state_alone(self, small: World) -> None:
        features = small.features()
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        ordered(features, "random", every(features), 1)
        assert torch.equal(torch.rand(3), expected)

    def test_unknown_order(self, small: World) -> None:
        features = small.features()
        with pytest.raises(RecError, match="'price' does not exist; use one of shown, popularity"):
            ordered(features, "price", every(features), 1)


def table_of(features: Features, scores: Any, rows: list[int], **changes: Any) -> pl.DataFrame:
    """RUNS rows of lists with these scores."""
    numbers = torch.tensor(rows)
    values = torch.as_tensor(scores, dtype=torch.float32)
    values = values.masked_fill(features.items[numbers] == 0, -torch.inf)
    ranked = Ranked(np.array(rows), np.full(len(rows), -1), values, features.labels[numbers])
    return runs_table(features, None, ranked, **{"variant": "none", "protocol": "p", **changes})


class TestRunsTable:
    def test_a_row(self, small: World) -> None:
        features = small.features()
        scores = [[0.1, 0.6, 0.3, 0.2, 0.5, 0.4]]
        table = table_of(features, scores, [14], backbone="mir", seed=7)
        check_schema(table, RUNS, "runs")
        labels = [int(v) for v in features.labels[14].tolist()]
        assert table.rows(named=True) == [
            {
                "variant": "none",
                "backbone": "mir",
                "protocol": "p",
                "seed": 7,
                "split": "test",
                "user": "u004",
                "list": "u004-2",
                "sample": NO_SAMPLE,
                "labels": [labels[place] for place in (1, 4, 5, 2, 3, 0)],
                "places": [1, 4, 5, 2, 3, 0],
            }
        ]

    def test_an_order_has_no_backbone_and_no_seed(self, small: World) -> None:
        row = table_of(small.features(), [[0.0] * 6], [14]).row(0, named=True)
        assert (row["backbone"], row["seed"]) == (NO_BACKBONE, NO_SEED)

    def test_equal_scores_keep_the_order_of_the_list(self, small: World) -> None:
        features = small.features()
        rows = list(range(len(features.lists)))
        table = table_of(features, np.zeros((len(rows), 6)), rows)
        expected = dict(small.lists.select("list", "labels").iter_rows())
        assert dict(table.select("list", "labels").iter_rows()) == expected
        two = table_of(features, [[0.0, 1.0, 0.0, 1.0, 0.0, 1.0]], [14])["labels"][0].to_list()
        assert two == [int(features.labels[14, place]) for place in (1, 3, 5, 0, 2, 4)]

    def test_padding_is_cut(self, small: World) -> None:
        made = shortened(small)
        features = made.features()
        rows = list(range(len(features.lists)))
        scores = np.random.default_rng(0).normal(size=(len(rows), 6))
        table = table_of(features, scores, rows)
        found = {row["list"]: row for row in table.iter_rows(named=True)}
        for row, name in enumerate(features.lists):
            labels = made.lists.row(row, named=True)["labels"]
            order = np.argsort(-scores[row, : len(labels)], kind="stable")
            assert found[name]["labels"] == [labels[place] for place in order]
            assert found[name]["places"] == order.tolist()

    @given(st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6), st.integers(0, 89))
    @settings(max_examples=40)
    def test_metrics_follow_from_the_labels(
        self, small: World, scores: list[float], row: int
    ) -> None:
        features = shortened(small).features()
        labels = table_of(features, [scores], [row])["labels"][0].to_list()
        falling = [-np.arange(len(labels))]
        mask = (features.items[[row]] > 0).numpy()
        expected = ndcg([scores], features.labels[[row]].numpy(), 5, mask)
        np.testing.assert_allclose(ndcg(falling, [labels], 5), expected)

    def test_graded_labels_stay(self, small: World) -> None:
        graded = small.lists.with_columns(labels=pl.col("labels").list.eval(pl.element() * 4))
        features = replace(small, lists=graded).features()
        rows = [row for row, found in enumerate(features.positive.tolist()) if found]
        table = table_of(features, np.zeros((len(rows), 6)), rows)
        assert set(table["labels"].explode()) == {0, 4}

    def test_every_response_has_a_row(self, small: World) -> None:
        """With its own sample number, sorted by list and sample."""
        features = small.features()
        later = small.user_vectors.with_columns(sample=pl.col("sample") + 5)
        knowledge = small.knowledge(features, later)
        model = fresh(features, knowledge, "setrank", disturbed=0.1)
        rows = positive_rows(features, features.users_of("test"), "test").flip(0)
        ranked = rank(model, features, knowledge, rows)
        table = runs_table(features, knowledge, ranked, variant="0", protocol="p", seed=1)
        assert table.select("list", "sample").equals(
            table.select("list", "sample").sort("list", "sample")
        )
        assert table.height == 3 * len(rows)
        assert table["sample"].to_list() == [5, 6, 7] * len(rows)
        judged = judge(model, features, knowledge, rows)
        worth = {
            (features.lists[row], 5 + response % 3): value
            for row, response, value in zip(judged.rows, judged.responses, judged.ndcg, strict=True)
        }
        for name, sample, labels in table.select("list", "sample", "labels").iter_rows():
            found = ndcg([-np.arange(len(labels))], [labels], 5)[0]
            assert found == pytest.approx(worth[name, sample])

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_score_that_is_not_a_number(self, small: World, value: float) -> None:
        with pytest.raises(RecError, match="variant 'none', seed 3: a score is not a number"):
            table_of(small.features(), [[0.0, value, 0.0, 0.0, 0.0, 0.0]], [14], seed=3)
