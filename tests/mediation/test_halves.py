import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from rec.mediation.halves import (
    Halves,
    against_others,
    halves,
    joined,
    moments,
    picks,
)
from rec.mediation.resampling import Estimate, Floats
from rec.rerank.features import Features
from rec.rerank.ranking import Judged
from tests.rerank.builders import world

RESAMPLES, SEED = 400, 5


def made(scores: Floats, texts: int) -> Halves:
    """Halves of users with `texts` texts each."""
    number = np.arange(len(scores))
    return Halves(number // texts, number, scores, scores)


def planted(worth: float, noise: float, users: int = 400, texts: int = 5) -> Halves:
    """Scores [users * texts, 2]: users differ, texts are worth something, halves are noisy."""
    rng = np.random.default_rng(3)
    size = (users * texts, 1)
    level = np.repeat(rng.normal(size=(users, 1)), texts, axis=0)
    values = level + worth * rng.normal(size=size) + noise * rng.normal(size=(size[0], 2))
    return made(values, texts)


def near(found: Estimate, truth: float, within: float) -> None:
    """The estimate is near the truth, and its interval holds it."""
    assert found.value == pytest.approx(truth, abs=within)
    assert found.low is not None and found.high is not None
    assert found.low <= truth <= found.high


def judged(rows: list[int], responses: list[int], ndcg: list[float]) -> Judged:
    values = np.array(ndcg)
    return Judged(np.array(rows), np.array(responses), values, values, -values)


class TestHalves:
    @pytest.fixture(scope="class")
    def features(self) -> Features:
        return world(users=5, lists=3).features()

    def test_lists_take_turns(self, features: Features) -> None:
        # user 1 has the lists 3, 4, 5: two on the first half, one on the second
        found = halves(
            judged([3, 3, 4, 4, 5, 5], [7, 9, 7, 9, 7, 9], [1.0, 0.0, 0.5, 0.25, 0.0, 0.5]),
            features,
        )
        assert (found.owners.tolist(), found.texts.tolist()) == ([1, 1], [7, 9])
        np.testing.assert_allclose(found.ndcg, [[0.5, 0.5], [0.25, 0.25]])
        np.testing.assert_allclose(found.log_likelihood, -found.ndcg)

    def test_one_text_on_the_lists_of_two_users_is_two(self, features: Features) -> None:
        found = halves(judged([3, 4, 0, 1], [7, 7, 7, 7], [1.0, 0.0, 0.5, 0.25]), features)
        assert (found.owners.tolist(), found.texts.tolist()) == ([0, 1], [7, 7])
        np.testing.assert_allclose(found.ndcg, [[0.5, 0.25], [1.0, 0.0]])

    def test_lists_in_another_order(self, features: Features) -> None:
        found = halves(judged([5, 4, 3], [7, 7, 7], [0.0, 0.5, 1.0]), features)
        np.testing.assert_allclose(found.ndcg, [[0.5, 0.5]])

    def test_users_of_one_list_are_left_out(self, features: Features) -> None:
        found = halves(judged([0, 3, 4], [1, 7, 7], [1.0, 0.5, 0.25]), features)
        assert found.owners.tolist() == [1]

    def test_turns_are_of_the_lists_that_were_judged(self, features: Features) -> None:
        # without list 4 (no positive) list 5 is the second
        found = halves(judged([3, 5], [7, 7], [1.0, 0.25]), features)
        np.testing.assert_allclose(found.ndcg, [[1.0, 0.25]])

    def test_owners_need_not_be_sorted(self, features: Features) -> None:
        numbers = features.list_user.tolist()
        mixed = Features(**{**vars(features), "list_user": tensor(numbers[::2] + numbers[1::2])})
        owner = mixed.list_user.tolist()
        rows = [row for row in range(len(owner)) if owner[row] == 2]
        found = halves(judged(rows, [4] * 3, [1.0, 0.5, 0.0]), mixed)
        np.testing.assert_allclose(found.ndcg, [[0.5, 0.5]])

    def test_joined_is_sorted_by_user_and_text(self) -> None:
        one, two = np.array([[0.1, 0.2]]), np.array([[0.3, 0.4], [0.5, 0.6]])
        parts = [
            Halves(np.array([4]), np.array([1]), one, one),
            Halves(np.array([2, 2]), np.array([8, 5]), two, two),
        ]
        found = joined(parts)
        assert (found.owners.tolist(), found.texts.tolist()) == ([2, 2, 4], [5, 8, 1])
        assert found.ndcg[:, 0].tolist() == [0.5, 0.3, 0.1]
        assert found.groups == [slice(0, 2)]


class TestReliability:
    def test_noise_is_told_from_nothing(self) -> None:
        found = planted(0.0, 1.0)
        near(moments(found.ndcg, found.groups).reliability(RESAMPLES, SEED), 0.0, 0.05)

    def test_a_planted_signal_is_found(self) -> None:
        # worth 1, noise 1 on each half: r = 1 / (1 + 1), on all lists 1 / (1 + 1 / 2)
        found = planted(1.0, 1.0)
        known = moments(found.ndcg, found.groups)
        near(known.reliability(RESAMPLES, SEED), 1 / 2, 0.05)
        near(known.full_reliability(RESAMPLES, SEED), 2 / 3, 0.05)

    def test_by_hand(self) -> None:
        # relative to the means (.5, .4): (.5, .4), (-.5, -.4) and for the other user (.1, -.1),
        # (-.1, .1), so that r = (.4 - .02) / sqrt(.52 x .34)
        scores = np.array([[1.0, 0.8], [0.0, 0.0], [0.6, 0.4], [0.4, 0.6]])
        found = made(scores, 2)
        r = moments(scores, found.groups).reliability(50, SEED)
        assert r.value == pytest.approx(0.38 / np.sqrt(0.52 * 0.34))
        assert r.users == 2

    def test_halves_that_disagree_are_not_reliable(self) -> None:
        """One text better on one half, worse on the other: r is -1, and 2r / (1 + r) no number."""
        scores = np.array([[1.0, 0.0], [0.0, 1.0]] * 3)
        known = moments(scores, made(scores, 2).groups)
        assert known.reliability(50, SEED) == Estimate(-1.0, -1.0, -1.0, 3)
        assert known.full_reliability(50, SEED) == Estimate(0.0, 0.0, 0.0, 3)

    def test_full_reliability_stays_between_0_and_1(self) -> None:
        """An end of the interval below 0 becomes 0, one above by the formula."""
        found = planted(0.0, 1.0, users=12, texts=3)
        known = moments(found.ndcg, found.groups)
        half, full = known.reliability(RESAMPLES, SEED), known.full_reliability(RESAMPLES, SEED)
        assert half.low is not None and half.low < -0.1
        assert half.high is not None and half.high > 0.1
        assert full.low == 0
        assert full.high == pytest.approx(2 * half.high / (1 + half.high))

    def test_variance_has_its_three_parts(self) -> None:
        # users 1, responses .5 ** 2, noise of the mean of two halves 1 / 2
        found = planted(0.5, 1.0, users=1500)
        shares = moments(found.ndcg, found.groups).shares(RESAMPLES, SEED)
        for share, truth in zip(shares, (1.0, 0.25, 0.5), strict=True):
            near(share, truth / 1.75, 0.05)
        assert sum(share.value or 0 for share in shares) == pytest.approx(1.0)

    def test_scores_that_are_all_the_same(self) -> None:
        found = made(np.ones((8, 2)), 2)
        known = moments(found.ndcg, found.groups)
        assert known.reliability(50, SEED).value is None
        assert known.full_reliability(50, SEED).value is None
        assert known.shares(50, SEED)[0].value is None

    def test_nobody_has_several_responses(self) -> None:
        found = made(np.ones((3, 2)), 1)
        assert found.groups == []
        assert moments(found.ndcg, found.groups).reliability(50, SEED).users == 0
        assert picks(found.ndcg, found.ndcg, found.groups).gain(50, SEED).value is None


class TestPicks:
    def test_by_hand(self) -> None:
        # by the first half text 0 is best and 2 worst: .2 and .6 on the second; by the second half
        # text 1 is best and 0 worst: .4 and .9 on the first
        scores = np.array([[0.9, 0.2], [0.4, 0.8], [0.1, 0.6]])
        found = picks(scores, scores, [slice(0, 3)])
        assert found.best.tolist() == pytest.approx([(0.2 + 0.4) / 2])
        assert found.worst.tolist() == pytest.approx([(0.6 + 0.9) / 2])
        assert found.mean.tolist() == pytest.approx([scores.mean()])

    def test_those_that_tie_count_alike(self) -> None:
        scores = np.array([[0.9, 0.2], [0.9, 0.8], [0.1, 0.8]])
        found = picks(scores, scores, [slice(0, 3)])
        assert found.best.tolist() == pytest.approx([((0.2 + 0.8) / 2 + (0.9 + 0.1) / 2) / 2])
        assert found.worst.tolist() == pytest.approx([(0.8 + 0.9) / 2])

    def test_picked_by_one_score_valued_by_another(self) -> None:
        by = np.array([[1.0, 0.0], [0.0, 1.0]])
        worth = np.array([[0.5, 0.6], [0.7, 0.8]])
        assert picks(by, worth, [slice(0, 2)]).best.tolist() == pytest.approx([(0.6 + 0.7) / 2])

    def test_noise_gains_nothing_though_the_best_looks_better(self) -> None:
        found = planted(0.0, 1.0)
        known = picks(found.ndcg, found.ndcg, found.groups)
        near(known.gain(RESAMPLES, SEED), 0.0, 0.06)
        near(known.spread(RESAMPLES, SEED), 0.0, 0.12)

    def test_worth_without_noise_gains_the_expected_maximum(self) -> None:
        # of five normal numbers the highest is 1.163 on average, the lowest -1.163
        found = planted(1.0, 0.0, users=1000)
        known = picks(found.ndcg, found.ndcg, found.groups)
        near(known.gain(RESAMPLES, SEED), 1.163, 0.06)
        near(known.spread(RESAMPLES, SEED), 2.326, 0.08)

    @settings(max_examples=30)
    @given(seed=st.integers(0, 1000), texts=st.integers(2, 6))
    def test_the_order_of_texts_does_not_count(self, seed: int, texts: int) -> None:
        rng = np.random.default_rng(seed)
        scores = rng.integers(0, 3, size=(texts, 2)) / 2  # with ties
        order = rng.permutation(texts)
        group = [slice(0, texts)]
        first, second = (picks(s, s, group) for s in (scores, scores[order]))
        assert first.best == pytest.approx(second.best)
        assert first.worst == pytest.approx(second.worst)


def test_the_own_text_against_the_others_by_hand() -> None:
    scores = np.array([[0.5, 0.7], [0.1, 0.3], [0.2, 0.4], [0.9, 0.9], [0.3, 0.5]])
    owners, texts = np.array([0, 0, 0, 1, 2]), np.array([4, 6, 8, 6, 4])
    found = Halves(owners, texts, scores, scores)
    # user 0: own .6 against .25; users 1 and 2 have nothing to compare
    assert against_others(found, np.array([4, 6, 8])).tolist() == pytest.approx([0.35])
    assert against_others(found, np.array([5, 6, 8])).tolist() == []
