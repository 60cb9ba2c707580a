import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rec.errors import RecError
from rec.identifiability import (
    chance_mrr,
    identifiability,
    reciprocal_ranks,
    response_cosines,
)

USERS, DIMENSION = 40, 16


def histories(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(USERS, DIMENSION))


def test_responses_that_are_the_history_find_everyone() -> None:
    found = identifiability(histories() + 3.0, np.arange(USERS), histories())
    assert (found.mrr, found.median_rank) == (1.0, 1.0)
    assert (found.users, found.responses) == (USERS, USERS)


@pytest.mark.parametrize("constant", ["responses", "histories", "both"])
def test_constant_vectors_give_exactly_chance(constant: str) -> None:
    rng = np.random.default_rng(2)
    level = np.full((USERS, DIMENSION), 0.1)
    own = rng.normal(size=(USERS, DIMENSION)) if constant == "histories" else level
    others = histories() if constant == "responses" else level
    found = identifiability(own.astype(np.float16), np.arange(USERS), others.astype(np.float16))
    assert found.mrr == pytest.approx(found.chance_mrr)
    assert found.median_rank == found.chance_median_rank == (USERS + 1) / 2


def test_chance_is_what_random_vectors_reach() -> None:
    rng = np.random.default_rng(1)
    owners = np.arange(4000) % USERS
    found = identifiability(rng.normal(size=(4000, DIMENSION)), owners, histories())
    assert found.chance_mrr == pytest.approx(sum(1 / r for r in range(1, USERS + 1)) / USERS)
    assert found.mrr == pytest.approx(found.chance_mrr, abs=0.015)
    assert found.median_rank == pytest.approx(found.chance_median_rank, abs=2)


def test_equal_histories_share_their_rank() -> None:
    twins = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    own = np.array([[1.0, 0.0], [-1.0, 0.0]])
    found = identifiability(own, np.array([0, 2]), twins)
    assert found.median_rank == 1.5
    assert found.mrr == pytest.approx((1 + 1 / 2) / 2)


@given(scale=st.floats(0.1, 10), shift=st.floats(-5, 5), seed=st.integers(0, 20))
def test_scale_and_common_part_do_not_count(scale: float, shift: float, seed: int) -> None:
    own = histories(seed) + histories(seed + 100)
    plain = identifiability(own, np.arange(USERS), histories(seed))
    moved = identifiability(own * scale + shift, np.arange(USERS), histories(seed) - shift)
    assert moved.mrr == pytest.approx(plain.mrr, abs=1e-6)


@given(seed=st.integers(0, 50), signal=st.floats(0, 2))
def test_reciprocal_ranks_are_those_of_a_sorted_list(seed: int, signal: float) -> None:
    rng = np.random.default_rng(seed)
    owners = rng.integers(0, USERS, 25)
    own = signal * histories(seed)[owners] + rng.normal(size=(25, DIMENSION))
    found = reciprocal_ranks(own, owners, histories(seed))
    centred = [v - v.mean(0) for v in (own, histories(seed))]
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in centred]
    order = np.argsort(-(unit[0] @ unit[1].T), axis=1)
    np.testing.assert_allclose(found, 1 / (1 + (order == owners[:, None]).argmax(1)))
    whole = identifiability(own, owners, histories(seed))
    assert whole.mrr == pytest.approx(found.mean())
    assert whole.chance_mrr == chance_mrr(USERS)


def test_needs_responses_and_users() -> None:
    with pytest.raises(RecError, match="two users"):
        identifiability(np.zeros((1, 2)), np.array([0]), np.zeros((1, 2)))
    with pytest.raises(RecError, match="needs responses"):
        identifiability(np.zeros((0, 2)), np.array([], dtype=np.int64), np.zeros((3, 2)))


def test_cosines_within_and_between_users() -> None:
    rng = np.random.default_rng(0)
    owners = np.array([0, 0, 0, 1, 1, 2])
    vectors = rng.normal(size=(6, 3))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    first = np.mean([cosines[0, 1], cosines[0, 2], cosines[1, 2]])
    different = owners[:, None] != owners
    within, between = response_cosines(vectors, owners)
    assert within == pytest.approx(np.mean([first, cosines[3, 4]]))
    assert between == pytest.approx(cosines[different].mean())


def test_cosines_that_do_not_exist() -> None:
    vectors = np.eye(3)
    assert response_cosines(vectors, np.array([0, 1, 2]))[0] is None
    assert response_cosines(vectors, np.array([0, 0, 0]))[1] is None
