from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rec.mediation.preferences import preference_links, probed, repeated

USERS, TEXTS, DIMENSION = 300, 3, 8
OWNERS = np.repeat(np.arange(USERS), TEXTS)
GROUPS = [slice(start, start + TEXTS) for start in range(0, USERS * TEXTS, TEXTS)]


def halves(worth: float, noise: float) -> np.ndarray:
    rng = np.random.default_rng(3)
    own = worth * rng.normal(size=(USERS * TEXTS, 1))
    return own + noise * rng.normal(size=(USERS * TEXTS, 2))


def test_preferences_that_are_true_are_so_again_and_those_of_noise_are_not() -> None:
    assert repeated(halves(1, 0), GROUPS).mean() == 1
    assert repeated(halves(0, 1), GROUPS).mean() == pytest.approx(0.5, abs=0.06)
    assert 0.6 < repeated(halves(1, 1), GROUPS).mean() < 0.95


def test_equal_responses_are_no_preference() -> None:
    scores = np.array([[0.3, 0.3], [0.3, 0.3], [0.3, 0.3]])
    assert repeated(scores, [slice(0, 3)]).tolist() == [0.5]
    tied = np.array([[2.0, 1.0], [2.0, 0.0], [0.0, 0.5]])  # (1 + 0) / 2 by the first half, 0.5 by
    assert repeated(tied, [slice(0, 3)]).tolist() == [0.5]  # the second, which has 2 against 2


@given(arrays(np.float64, (4, 2), elements=st.floats(-5, 5)))
def test_it_is_a_share_and_does_not_change_with_the_order(scores: np.ndarray) -> None:
    (share,) = repeated(scores, [slice(0, 4)])
    assert 0 <= share <= 1
    assert repeated(scores[::-1], [slice(0, 4)])[0] == pytest.approx(share)
    assert repeated(scores[:, ::-1], [slice(0, 4)])[0] == pytest.approx(share)


def vectors() -> np.ndarray:
    return np.random.default_rng(4).normal(size=(USERS * TEXTS, DIMENSION)).astype(np.float32)


def test_a_probe_finds_what_users_have_in_common() -> None:
    texts = vectors()
    common = (texts @ np.arange(DIMENSION)).astype(float)
    assert probed(texts, common, OWNERS, seed=1).mean() > 0.95


def test_a_probe_finds_nothing_where_every_user_wants_something_else() -> None:
    texts = vectors()
    wants = np.random.default_rng(5).normal(size=(USERS, DIMENSION))[OWNERS]
    own = (texts * wants).sum(1).astype(float)
    assert probed(texts, own, OWNERS, seed=1).mean() == pytest.approx(0.5, abs=0.08)


def test_users_without_a_pair_are_not_asked() -> None:
    texts, scores = vectors(), np.arange(USERS * TEXTS, dtype=float)
    scores[: 2 * TEXTS] = 1.0
    assert len(probed(texts, scores, OWNERS, seed=1)) == USERS - 2
    assert len(probed(texts[: 4 * TEXTS], scores[: 4 * TEXTS], OWNERS[: 4 * TEXTS], seed=1)) == 0
    assert probed(np.ones_like(texts), scores, OWNERS, seed=1).tolist() == [0.5] * (USERS - 2)


def test_links_are_against_chance_and_do_not_decide() -> None:
    again, right = preference_links(np.ones(20), np.zeros(0), 100, seed=1)
    assert (again.value, again.null, again.holds, again.users) == (1.0, 0.5, True, 20)
    assert right.value is None and right.holds is None
    assert not again.chain and not right.chain
