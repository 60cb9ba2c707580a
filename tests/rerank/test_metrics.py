import doctest
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rec.errors import RecError
from rec.rerank import metrics
from rec.rerank.metrics import (
    NAMES,
    RANKED,
    SCOPES,
    average_precision,
    click,
    hit_rate,
    map_kar,
    ndcg,
    ranked,
    ranked_metrics,
)

FIXTURES = Path(__file__).parent.parent / "fixtures"
#: Metrics that are 1 for a perfect order, and all.
SHARES = [ndcg, average_precision, map_kar, hit_rate]
METRICS = [*SHARES, click]
#: KAR's names and ours.
KAR = [("ndcg", ndcg), ("map", map_kar), ("click", click)]


def fixture(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FIXTURES / name).read_text())
    return loaded


class TestAgreementWithKAR:
    @pytest.mark.parametrize("k", SCOPES)
    @pytest.mark.parametrize("name", ["rerank_metrics.json", "rerank_metrics_graded.json"])
    def test_means(self, name: str, k: int) -> None:
        data = fixture(name)
        for key, metric in KAR:
            found = metric(data["scores"], data["labels"], k).mean()
            assert found == pytest.approx(data["expected"][f"{key}@{k}"], abs=1e-12)

    @pytest.mark.parametrize("k", SCOPES)
    def test_each_list_and_the_initial_order(self, k: int) -> None:
        data = fixture("rerank_metrics.json")
        level = np.zeros_like(data["scores"])
        for key, metric in KAR:
            name = f"{key}@{k}"
            found = metric(data["scores"], data["labels"], k)
            np.testing.assert_allclose(found, data["per_list"][name], rtol=0, atol=1e-12)
            initial = metric(level, data["labels"], k).mean()
            assert initial == pytest.approx(data["expected_is_rank_false"][name], abs=1e-12)

    def test_all_at_once(self) -> None:
        data = fixture("rerank_metrics_graded.json")
        found = ranked_metrics(ranked(data["scores"], data["labels"])).mean(0)
        values = dict(zip(NAMES, found, strict=True))
        for key, value in data["expected"].items():
            assert values[key.replace("map@", "map_kar@")] == pytest.approx(value, abs=1e-12)


class TestAgreementWithRanx:
    """Values of ranx 0.3.21 on random graded lists of 1 to 14 items (make_ranx_metrics.py)."""

    @pytest.fixture(scope="class")
    def data(self) -> dict[str, Any]:
        return fixture("ranx_metrics.json")

    @pytest.fixture(scope="class")
    def order(self, data: dict[str, Any]) -> Any:
        """Labels in ranked order, padded."""
        width = max(map(len, data["labels"]))
        pads = [width - len(row) for row in data["labels"]]
        labels = [row + [0] * pad for row, pad in zip(data["labels"], pads, strict=True)]
        scores = [row + [99.0] * pad for row, pad in zip(data["scores"], pads, strict=True)]
        mask = [[True] * (width - pad) + [False] * pad for pad in pads]
        assert min(map(len, data["labels"])) == 1 and width > 10
        return ranked(scores, labels, mask)

    @pytest.mark.parametrize("k", SCOPES)
    @pytest.mark.parametrize(
        ("theirs", "ours"), [("ndcg_burges", "ndcg"), ("hit_rate", "hit_rate")]
    )
    def test_same_definition(self, data: Any, order: Any, theirs: str, ours: str, k: int) -> None:
        expected = data["per_list"][f"{theirs}@{k}"]
        np.testing.assert_allclose(RANKED[ours](order, k), expected, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("k", SCOPES)
    def test_clicks_are_hits_where_labels_are_0_and_1(self, data: Any, order: Any, k: int) -> None:
        found = RANKED["click"](np.minimum(order, 1), k)
        np.testing.assert_array_equal(found, data["per_list"][f"hits@{k}"])

    @pytest.mark.parametrize("k", SCOPES)
    def test_map_differs_in_what_it_divides_by(self, data: Any, order: Any, k: int) -> None:
        """By all positives there, by the min(k, positives) that can be reached here."""
        positives = (order >= 1).sum(1)
        found = RANKED["map"](order, k) * np.minimum(positives, k) / positives
        np.testing.assert_allclose(found, data["per_list"][f"map@{k}"], rtol=0, atol=1e-12)


def test_examples_of_the_docstrings() -> None:
    found = doctest.testmod(metrics)
    assert found.failed == 0 and found.attempted >= len(RANKED)


class TestByHand:
    def test_graded_gain(self) -> None:
        reached = 1 / 1 + 7 / math.log2(3)
        ideal = 7 / 1 + 1 / math.log2(3)
        assert ndcg([[2, 1]], [[1, 3]], 5)[0] == pytest.approx(reached / ideal)

    @pytest.mark.parametrize(
        ("labels", "k", "expected"),
        [
            ([1, 0, 0, 1], 4, (1 + 2 / 4) / 2),
            ([1, 0, 0, 1], 3, 1 / 2),  # two positives, one of them within 3
            ([1, 1, 1, 1], 2, 1.0),  # min(k, positives) = 2
            ([0, 0, 0, 0], 4, 0.0),
        ],
    )
    def test_average_precision(self, labels: list[int], k: int, expected: float) -> None:
        assert average_precision([[4, 3, 2, 1]], [labels], k)[0] == pytest.approx(expected)

    @pytest.mark.parametrize(("k", "hit", "clicks"), [(1, 0, 0), (2, 1, 3), (3, 1, 3), (9, 1, 4)])
    def test_hits_and_clicks(self, k: int, hit: int, clicks: int) -> None:
        scores, labels = [[4, 3, 2, 1]], [[0, 3, 0, 1]]
        assert hit_rate(scores, labels, k).tolist() == [hit]
        assert click(scores, labels, k).tolist() == [clicks]

    def test_ties_keep_the_order_of_the_list(self) -> None:
        assert ndcg([[0.5, 0.5, 0.5]], [[1, 0, 0]], 1)[0] == 1.0
        assert ndcg([[0.5, 0.5, 0.5]], [[0, 0, 1]], 1)[0] == 0.0


@pytest.mark.parametrize("metric", METRICS)
class TestBadInput:
    def test_nan_is_refused(self, metric: Any) -> None:
        with pytest.raises(RecError, match="list 1 hold NaN"):
            metric([[1.0, 2.0], [math.nan, 1.0]], [[0, 1], [0, 1]], 5)

    def test_nan_at_padding_is_not_seen(self, metric: Any) -> None:
        assert metric([[2.0, math.nan]], [[1, 0]], 5, [[True, False]])[0] == 1.0

    def test_label_at_padding_is_not_seen(self, metric: Any) -> None:
        assert metric([[2.0, 9.0]], [[1, -3]], 5, [[True, False]])[0] == 1.0

    def test_shapes_and_k(self, metric: Any) -> None:
        with pytest.raises(RecError, match="one shape"):
            metric([[1.0]], [[0, 1]], 5)
        with pytest.raises(RecError, match="1 or more"):
            metric([[1.0]], [[0]], 0)
        with pytest.raises(RecError, match="0 or more"):
            metric([[1.0]], [[-1]], 5)


LISTS = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)
CASES = LISTS.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float64, shape, elements=st.integers(-3, 3)),
        hnp.arrays(np.int64, shape, elements=st.integers(0, 3)),
    )
)


@pytest.mark.parametrize("metric", METRICS)
class TestProperties:
    @given(case=CASES, k=st.integers(1, 9))
    def test_perfect_order_is_best(self, metric: Any, case: Any, k: int) -> None:
        scores, labels = case
        if metric is not map_kar:  # which divides by the hits that it found
            best = metric(labels, labels, k)
            assert (metric(scores, labels, k) <= best + 1e-12).all()

    @given(case=CASES, k=st.integers(1, 9))
    def test_range(self, metric: Any, case: Any, k: int) -> None:
        scores, labels = case
        if metric in SHARES:
            found = metric(scores, labels, k)
            assert ((found >= 0) & (found <= 1 + 1e-12)).all()
            best = metric(labels, labels, k)
            np.testing.assert_allclose(best, (labels.sum(1) > 0).astype(float), atol=1e-12)

    @given(case=CASES, k=st.integers(1, 9), padding=st.integers(1, 3))
    def test_padding_changes_nothing(self, metric: Any, case: Any, k: int, padding: int) -> None:
        scores, labels = case
        mask = np.ones_like(labels, dtype=bool)
        wider = [
            np.pad(values, ((0, 0), (padding, padding)), constant_values=fill)
            for values, fill in ((scores, 9.0), (labels, 3), (mask, False))
        ]
        found = metric(wider[0], wider[1], k, wider[2])
        np.testing.assert_allclose(found, metric(scores, labels, k), atol=1e-12)

    @given(case=CASES)
    def test_torch_and_numpy_agree(self, metric: Any, case: Any) -> None:
        scores, labels = case
        found = metric(torch.from_numpy(scores), torch.from_numpy(labels), 5)
        np.testing.assert_array_equal(found, metric(scores, labels, 5))


@pytest.mark.parametrize(
    ("name", "metric"),
    list(zip(RANKED, [ndcg, average_precision, map_kar, hit_rate, click], strict=True)),
)
@given(case=CASES, k=st.integers(1, 9), zeros=st.integers(0, 3))
def test_labels_in_ranked_order_give_the_same(
    name: str, metric: Any, case: Any, k: int, zeros: int
) -> None:
    """And zeros behind them, as padding, change nothing."""
    scores, labels = case
    order = np.take_along_axis(labels, np.argsort(-scores, axis=1, kind="stable"), axis=1)
    np.testing.assert_array_equal(ranked(scores, labels), order)
    padded = np.pad(order, ((0, 0), (0, zeros)))
    np.testing.assert_allclose(RANKED[name](padded, k), metric(scores, labels, k), atol=1e-12)


@given(case=CASES)
def test_all_metrics_stand_under_their_names(case: Any) -> None:
    scores, labels = case
    order = ranked(scores, labels)
    values = ranked_metrics(order)
    assert values.shape == (len(labels), len(NAMES))
    for column, name in enumerate(NAMES):
        metric, k = name.split("@")
        np.testing.assert_array_equal(values[:, column], RANKED[metric](order, int(k)))
