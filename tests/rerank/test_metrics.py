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
from rec.rerank.metrics import average_precision, map_kar, ndcg

FIXTURES = Path(__file__).parent.parent / "fixtures"
METRICS = [ndcg, average_precision, map_kar]


def fixture(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FIXTURES / name).read_text())
    return loaded


class TestAgreementWithKAR:
    @pytest.mark.parametrize("k", [1, 3, 5, 7, 10])
    @pytest.mark.parametrize("name", ["rerank_metrics.json", "rerank_metrics_graded.json"])
    def test_means(self, name: str, k: int) -> None:
        data = fixture(name)
        for key, metric in ((f"ndcg@{k}", ndcg), (f"map@{k}", map_kar)):
            found = metric(data["scores"], data["labels"], k).mean()
            assert found == pytest.approx(data["expected"][key], abs=1e-14)

    @pytest.mark.parametrize("k", [1, 3, 5, 7, 10])
    def test_each_list_and_the_initial_order(self, k: int) -> None:
        data = fixture("rerank_metrics.json")
        level = np.zeros_like(data["scores"])
        for key, metric in ((f"ndcg@{k}", ndcg), (f"map@{k}", map_kar)):
            found = metric(data["scores"], data["labels"], k)
            np.testing.assert_allclose(found, data["per_list"][key], atol=1e-14)
            initial = metric(level, data["labels"], k).mean()
            assert initial == pytest.approx(data["expected_is_rank_false"][key], abs=1e-14)


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
    def test_range_and_perfect_order(self, metric: Any, case: Any, k: int) -> None:
        scores, labels = case
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
