import numpy as np
import pytest

from rec.mediation.across import across_links, crossed, one_against_others
from rec.mediation.halves import Halves

USERS, TEXTS, MODELS = 400, 3, 4
OWNERS = np.repeat(np.arange(USERS), TEXTS)
SIZE = len(OWNERS)


def judged(worth: float, reaction: float, noise: float) -> list[Halves]:
    """A text's worth to all models, to one alone on both halves, and noise of a half for all.

    By log-likelihood all is ten times as much and the models have a reaction of their own.
    """
    rng = np.random.default_rng(3)
    both = worth * rng.normal(size=(SIZE, 1)) + noise * rng.normal(size=(SIZE, 2))
    return [
        Halves(
            OWNERS,
            np.arange(SIZE),
            both + reaction * rng.normal(size=(SIZE, 1)),
            10 * both + 10 * rng.normal(size=(SIZE, 1)),
        )
        for _ in range(MODELS)
    ]


ITSELF = [([number], [number]) for number in range(MODELS)]


def test_a_models_own_reaction_is_reliable_to_itself_and_worth_nothing_to_others() -> None:
    each = judged(worth=0.0, reaction=1.0, noise=0.5)
    alone = crossed(each, ITSELF, "ndcg")
    assert alone.reliability(200, 1).value == pytest.approx(0.8, abs=0.04)  # 1 / (1 + 0.25)
    assert alone.gain(200, 1).value > 0.5  # type: ignore[operator]
    others = crossed(each, one_against_others(MODELS), "ndcg")
    reliability, gain = others.reliability(200, 1), others.gain(200, 1)
    assert reliability.value == pytest.approx(0, abs=0.06) and reliability.users == USERS
    assert gain.low < 0 < gain.high  # type: ignore[operator]


def test_what_a_text_is_worth_to_all_is_so_to_others() -> None:
    each = judged(worth=1.0, reaction=0.0, noise=0.5)
    others = crossed(each, one_against_others(MODELS), "ndcg")
    assert others.reliability(200, 1).value == pytest.approx(0.8, abs=0.04)
    alone = crossed(each, ITSELF, "ndcg")
    assert others.gains == pytest.approx(alone.gains)


def test_noise_of_a_half_is_nobodys() -> None:
    each = judged(worth=0.0, reaction=0.0, noise=1.0)
    for teams in (ITSELF, one_against_others(MODELS)):
        assert crossed(each, teams, "ndcg").reliability(200, 1).value == pytest.approx(0, abs=0.06)


def test_more_pickers_find_more_of_what_all_share() -> None:
    each = judged(worth=1.0, reaction=2.0, noise=0.0)
    one = crossed(each, [([0], [3])], "ndcg").gain(50, 1).value
    three = crossed(each, [([0, 1, 2], [3])], "ndcg").gain(50, 1).value
    assert 0.2 < one < three - 0.05  # type: ignore[operator]


def test_the_measure_picks_and_ndcg_values() -> None:
    """By hand: the log-likelihood of either half picks the second text, which is worth .4 less."""
    ndcg, finer = np.array([[0.9, 0.7], [0.5, 0.3]]), np.array([[-2.0, -2.0], [-1.0, -1.0]])
    one = Halves(np.zeros(2, dtype=int), np.arange(2), ndcg, finer)
    found = crossed([one, one], one_against_others(2), "log_likelihood")
    assert found.gains.tolist() == [pytest.approx(-0.2)]


def test_one_model_leaves_the_links_open() -> None:
    links = across_links(judged(1.0, 0.0, 0.0)[:1], 50, 1)
    assert [link.value for link in links] == [None] * 4


def test_links_by_both_measures() -> None:
    links = {link.name: link for link in across_links(judged(1.0, 0.0, 0.1), 100, 1)}
    assert links["across_valid"].holds and links["best_of_n_across_valid"].holds
    assert links["across_valid"].value > links["log_likelihood_across_valid"].value  # type: ignore[operator]
    assert not any(link.chain for link in links.values())
