import numpy as np
import pytest

from rec.identifiability import identifiability, response_cosines, user_sums
from rec.mediation.links import Link
from rec.mediation.texts import Texts, text_links

USERS, SAMPLES, DIMENSION = 480, 4, 16


def texts(signal: float, seed: int = 0) -> Texts:
    """Responses that hold `signal` times their user's history, and noise."""
    rng = np.random.default_rng(seed)
    histories = rng.normal(size=(USERS, DIMENSION))
    owners = np.repeat(np.arange(USERS), SAMPLES)
    noise = rng.normal(size=(len(owners), DIMENSION))
    splits = np.array(["train", "train", "valid", "test"] * (USERS // 4))
    vectors = signal * histories[owners] + noise
    return Texts(vectors, vectors, owners, histories, splits)


def links(found: Texts) -> dict[str, Link]:
    return {link.name: link for link in text_links(found, 300, seed=1)}


def test_texts_without_their_user_are_at_chance() -> None:
    found = links(texts(0.0))
    for split in ("train", "valid", "test"):
        link = found[f"identifiability_{split}"]
        assert link.low is not None and link.high is not None
        assert link.low <= link.null <= link.high
        assert link.holds is False
    for name in ("vectors_between_train", "cosines_train"):
        assert found[name].value == pytest.approx(0, abs=0.02)
        assert found[name].holds is False


def test_texts_that_hold_their_user_are_found() -> None:
    found = links(texts(2.0))
    for name in ("identifiability_train", "identifiability_valid", "vectors_between_train"):
        assert found[name].holds
    assert [link.name for link in found.values() if link.chain] == ["identifiability_train"]


def test_the_value_is_that_of_identifiability() -> None:
    made = texts(1.0)
    found = links(made)
    whole = identifiability(made.vectors, made.owners, made.histories)
    values = [found[f"identifiability_{split}"].value or 0 for split in ("train", "valid", "test")]
    assert np.average(values, weights=[2, 1, 1]) == pytest.approx(whole.mrr, abs=1e-5)
    assert found["identifiability_train"].null == round(whole.chance_mrr, 6)
    assert found["identifiability_train"].users == USERS // 2


def test_the_share_between_users_is_that_of_the_variance() -> None:
    # unit vectors of equally many responses: 1 - (variance within) / (all variance), unbiased
    made = texts(1.0)
    chosen = made.splits[made.owners] == "train"
    unit = made.vectors[chosen]
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    groups = unit.reshape(-1, SAMPLES, DIMENSION)
    within = groups.var(axis=1, ddof=1).sum(1).mean()
    between = groups.mean(1).var(axis=0, ddof=1).sum() - within / SAMPLES
    found = links(made)
    value = found["vectors_between_train"].value
    assert value == pytest.approx(between / (between + within), abs=1e-5)
    own, other = response_cosines(made.vectors[chosen], made.owners[chosen])
    assert own is not None and other is not None
    assert found["cosines_train"].value == pytest.approx(own - other, abs=1e-6)


def test_a_user_drawn_twice_is_no_two_users() -> None:
    rng = np.random.default_rng(2)
    vectors, owners = rng.normal(size=(6, 3)), np.array([0, 0, 1, 1, 2, 2])
    drawn = np.array([[2.0, 1.0, 0.0]])
    sums = user_sums(vectors, owners)
    within, between = sums.cosines(drawn)
    kept = [0, 1, 2, 3]
    assert between[0] == pytest.approx(response_cosines(vectors[kept], owners[kept])[1])
    own = [response_cosines(vectors[p], owners[p])[0] for p in ([0, 1], [2, 3])]
    assert own[0] is not None and own[1] is not None
    assert within[0] == pytest.approx((2 * own[0] + own[1]) / 3)


def test_what_is_told_is_another_thing_than_who_is_identified() -> None:
    """Responses that could be anybody's, told behind their user's history."""
    bare, joint = texts(0.0), texts(2.0)
    told = Texts(bare.vectors, joint.vectors, bare.owners, bare.histories, bare.splits)
    found = links(told)
    assert found["identifiability_train"].holds is False
    assert found["vectors_between_train"] == links(joint)["vectors_between_train"]


def test_one_response_each_has_no_cosine() -> None:
    made = texts(1.0)
    first = np.arange(0, USERS * SAMPLES, SAMPLES)
    vectors = made.vectors[first]
    alone = Texts(vectors, vectors, made.owners[first], made.histories, made.splits)
    found = links(alone)
    assert found["vectors_between_train"].value is None
    assert found["identifiability_train"].holds
