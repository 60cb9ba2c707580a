import numpy as np
import pytest

from rec.mediation.agreement import Opinions, agreement, opinions
from rec.mediation.rewards import agreement_links
from rec.rerank.ranking import Judged
from tests.rerank.builders import world

USERS, TEXTS = 400, 3
OWNERS = np.repeat(np.arange(USERS), TEXTS)


def scores(worth: float, noise: float, models: int = 4) -> np.ndarray:
    """Worth of a response that all models see, noise of each, and how hard a user's lists are."""
    rng = np.random.default_rng(5)
    lists = np.repeat(rng.normal(size=(USERS, 1)), TEXTS, axis=0)
    own = worth * rng.normal(size=(len(OWNERS), 1))
    return lists + own + noise * rng.normal(size=(len(OWNERS), models))


@pytest.mark.parametrize(("worth", "noise", "share"), [(1, 1, 0.5), (3, 1, 0.9), (0, 1, 0.0)])
def test_share_of_variance_that_models_have_in_common(
    worth: float, noise: float, share: float
) -> None:
    found = agreement(scores(worth, noise), OWNERS, 200, seed=1)
    assert found.value == pytest.approx(share, abs=0.06)
    assert found.low is not None and found.high is not None
    assert found.low <= share <= found.high and found.users == USERS


def test_how_hard_lists_are_is_no_agreement() -> None:
    """Models agree perfectly about users; about their responses they know nothing."""
    found = agreement(scores(0.0, 0.01), OWNERS, 200, seed=1)
    assert found.value == pytest.approx(0, abs=0.06)


def test_without_a_second_model_or_a_second_response_there_is_none() -> None:
    assert agreement(scores(1, 1, models=1), OWNERS, 50, seed=1).value is None
    single = np.arange(len(OWNERS))
    assert agreement(scores(1, 1), single, 50, seed=1).value is None


def test_scores_of_a_response_are_means_over_the_lists_of_its_user() -> None:
    features = world(users=4, lists=2, samples=2).features()
    rows = np.repeat(np.arange(len(features.lists)), 2)
    owner = features.list_user.numpy()[rows]
    responses = owner * 2 + np.tile([0, 1], len(features.lists))
    rng = np.random.default_rng(3)
    parts = [Judged(rows, responses, *(rng.random(len(rows)) for _ in range(3))) for _ in range(2)]
    found = opinions(parts, features)
    assert found.owners.tolist() == np.repeat(np.unique(owner), 2).tolist()
    for place, (user, response) in enumerate(zip(owner, responses, strict=True)):
        same = (owner == user) & (responses == response)
        row = int(np.searchsorted(np.unique(responses), response))
        for model, part in enumerate(parts):
            assert found.ndcg[row, model] == pytest.approx(part.ndcg[same].mean()), place
            assert found.log_likelihood[row, model] == pytest.approx(
                part.log_likelihood[same].mean()
            )


def test_links_are_of_validation_users_and_do_not_decide() -> None:
    made = Opinions(OWNERS, scores(1, 1), scores(3, 1))
    links = agreement_links(made, 100, seed=1)
    assert [link.name for link in links] == ["agreement_valid", "log_likelihood_agreement_valid"]
    assert all(link.users_of == "valid" and not link.chain and link.holds for link in links)
    assert (links[0].value or 0) < (links[1].value or 0)
