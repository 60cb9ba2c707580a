import numpy as np
import polars as pl
import pytest

from rec.mediation.halves import Halves
from rec.mediation.links import NATS, POINTS, STEPS, Link
from rec.mediation.rewards import fresh_links, response_links, swap_links
from rec.tables import ALL_FOLDS, SCORES

USERS, TEXTS = 300, 4


def noisy(worth: float, seed: int = 0) -> Halves:
    rng = np.random.default_rng(seed)
    size = USERS * TEXTS
    scores = 0.6 + worth * rng.normal(size=(size, 1)) + 0.02 * rng.normal(size=(size, 2))
    number = np.arange(size)
    return Halves(number // TEXTS, number, scores, scores)


def by_name(links: list[Link]) -> dict[str, Link]:
    found = {link.name: link for link in links}
    assert len(found) == len(links)
    return found


def test_a_reward_of_noise_breaks_the_chain() -> None:
    found = by_name(response_links(noisy(0.0), "train", "ndcg@5", 400, seed=1))
    for name in ("reliability", "full_reliability", "variance_responses", "best_of_n"):
        link = found[f"{name}_train"]
        assert link.low is not None and link.high is not None
        assert link.low <= 0 <= link.high
        assert link.holds is False


def test_a_planted_signal_holds() -> None:
    found = by_name(response_links(noisy(0.03), "train", "ndcg@5", 400, seed=1))
    for name in ("reliability", "full_reliability", "best_of_n", "best_worst"):
        assert found[f"{name}_train"].holds
    shares = [found[f"variance_{part}_train"].value for part in ("users", "responses", "noise")]
    assert sum(share or 0 for share in shares) == pytest.approx(1, abs=1e-5)
    spread, gain = found["best_worst_train"], found["best_of_n_train"]
    assert spread.unit == gain.unit == POINTS
    assert (spread.value or 0) > (gain.value or 0) > 1  # points, not NDCG@5


def test_train_users_decide_and_validation_users_say_more() -> None:
    train = response_links(noisy(0.03), "train", "ndcg@5", 50, seed=1)
    valid = response_links(noisy(0.03), "valid", "ndcg@5", 50, seed=1)
    assert [link.name for link in train if link.chain] == ["reliability_train", "best_of_n_train"]
    assert not any(link.chain for link in valid)
    assert [link.step for link in train] == [link.step for link in valid]
    assert {link.users_of for link in valid} == {"valid"}


def test_the_measure_of_the_pairs_decides() -> None:
    train = response_links(noisy(0.03), "train", "log_likelihood", 50, seed=1)
    deciding = [link.name for link in train if link.chain]
    assert deciding == ["log_likelihood_reliability_train", "best_by_log_likelihood_train"]
    same = response_links(noisy(0.03), "train", "map@5", 50, seed=1)
    assert [link.name for link in same if link.chain] == ["reliability_train", "best_of_n_train"]


def test_swap_links_know_the_own_text() -> None:
    found = noisy(0.0)
    own = np.arange(USERS) * TEXTS + 1
    found.ndcg[own] += 0.1
    links = by_name(swap_links(found, own, 200, seed=1))
    assert links["swap_own"].value == pytest.approx(10, abs=0.5)
    assert links["swap_own"].users == USERS
    others = by_name(swap_links(found, own + 1, 200, seed=1))
    assert others["swap_own"].value == pytest.approx(-10 / 3, abs=0.5)
    assert [link.name for link in links.values() if link.chain] == ["swap_reliability"]


def test_a_text_that_is_better_for_everybody_is_no_match() -> None:
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(USERS), TEXTS)
    texts = np.concatenate([rng.choice(40, TEXTS, replace=False) for _ in range(USERS)])
    worth = rng.normal(size=(40, 1))[texts]
    noise = rng.normal(size=(len(owners), 2))
    own = np.full(USERS, -1)
    plain = Halves(owners, texts, worth + noise, worth + noise)
    links = by_name(swap_links(plain, own, 300, seed=1))
    assert links["swap_reliability"].holds and not links["swap_match"].holds
    match = worth + noise + rng.normal(size=(len(owners), 1))
    links = by_name(swap_links(Halves(owners, texts, match, match), own, 300, seed=1))
    assert links["swap_match"].holds
    assert links["swap_match"].value == pytest.approx(0.5, abs=0.06)


def scores(values: dict[str, list[float]]) -> pl.DataFrame:
    rows = [
        (user, sample, 0, value, value, -1.0, 3)
        for user, own in values.items()
        for sample, value in enumerate(own)
    ]
    return pl.DataFrame(rows, schema=dict(SCORES), orient="row")


def test_fresh_responses_are_paired_by_user() -> None:
    before = scores({"a": [0.2, 0.4], "b": [0.5], "c": [0.1], "d": [0.9, 0.7, 0.8], "e": [0.1]})
    after = scores({"a": [0.5], "b": [0.6, 0.8], "c": [0.1], "d": [0.9], "x": [0.3]})
    splits = pl.DataFrame(
        {"user": list("abcdex"), "split": ["valid", "valid", "train", "train", "train", "train"]}
    )
    found = by_name(fresh_links(before, after, splits, "ndcg@5", 200, seed=1))
    # a: .5 - .3, b: .7 - .5; c: 0, d: .9 - .8
    assert found["fresh_reward_valid"].value == pytest.approx(20)
    assert found["fresh_reward_valid"].low == pytest.approx(20)
    assert found["fresh_reward_valid"].users == 2
    assert found["fresh_reward_train"].value == pytest.approx(5)
    assert (found["fresh_reward_train"].low, found["fresh_reward_train"].high) == (0.0, 10.0)
    assert [link.name for link in found.values() if link.chain] == ["fresh_reward_valid"]
    likelier = after.with_columns(log_likelihood=-0.75)
    found = by_name(fresh_links(before, likelier, splits, "log_likelihood", 200, seed=1))
    assert [link.name for link in found.values() if link.chain] == ["fresh_log_likelihood_valid"]
    gain = found["fresh_log_likelihood_valid"]
    assert (gain.value, gain.unit, gain.users) == (0.25, NATS, 2)
    assert found["fresh_reward_valid"].value == pytest.approx(20)


def test_the_sample_that_a_model_stopped_by_does_not_count() -> None:
    """Of validation users with other responses; train users count with all of theirs."""
    scores = [("a", 0, ALL_FOLDS, 0.9), ("a", 1, ALL_FOLDS, 0.3), ("b", 0, ALL_FOLDS, 0.8)]
    scores += [("b", 1, ALL_FOLDS, 0.5), ("c", 0, 1, 0.4), ("c", 1, 1, 0.6), ("d", 0, 0, 0.5)]
    columns = {"user": pl.String, "sample": pl.Int32, "fold": pl.Int32, "ndcg@5": pl.Float64}
    before = pl.DataFrame(scores, schema=columns, orient="row").with_columns(log_likelihood=-1.0)
    after = before.with_columns(pl.lit(0.6).alias("ndcg@5"))
    splits = pl.DataFrame({"user": list("abcd"), "split": ["valid"] * 2 + ["train"] * 2})
    found = by_name(fresh_links(before, after, splits, "ndcg@5", 200, seed=1))
    assert found["fresh_reward_valid"].value == pytest.approx(20)  # .6 - .3 and .6 - .5
    assert found["fresh_reward_train"].value == pytest.approx(10)  # .6 - .5 twice
    alone = before.filter((pl.col("sample") == 0) | (pl.col("fold") != ALL_FOLDS))
    found = by_name(fresh_links(alone, after, splits, "ndcg@5", 200, seed=1))
    assert found["fresh_reward_valid"].value == pytest.approx(-25)  # .6 - .9 and .6 - .8


def test_every_link_belongs_to_a_step() -> None:
    found = noisy(0.01)
    links = [
        *response_links(found, "train", "ndcg@5", 50, 1),
        *swap_links(found, np.arange(USERS), 50, 1),
    ]
    assert {link.step for link in links} <= set(STEPS)
