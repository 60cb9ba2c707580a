from dataclasses import replace

import numpy as np
import pytest

from rec.errors import RecError
from rec.mediation.halves import picks
from rec.mediation.judging import (
    FoldJudgement,
    chosen_users,
    judge_fold,
    judge_round,
    mean_judged,
    swaps,
    without_first,
)
from rec.mediation.rewards import swap_links
from rec.rerank.features import Features, Knowledge
from rec.rerank.ranking import judge_pairs, positive_rows
from rec.reward import RewardModel, fold_users, judge_users, mean_over_folds, train_fold
from tests.rerank.builders import random_vectors, ranker, world

FOLDS, SEED = 2, 11


@pytest.fixture(scope="module")
def data() -> tuple[Features, Knowledge]:
    made = world(users=150, lists=6, samples=3, noise=0.1)
    features = made.features()
    return features, made.knowledge(features)


@pytest.fixture(scope="module")
def models(data: tuple[Features, Knowledge]) -> list[RewardModel]:
    return [
        train_fold(*data, ranker(epochs=10), "prm", SEED, fold, FOLDS)[0] for fold in range(FOLDS)
    ]


@pytest.fixture(scope="module")
def parts(data: tuple[Features, Knowledge], models: list[RewardModel]) -> list[FoldJudgement]:
    return [judge_fold([model], *data, data[1]) for model in models]


def names(features: Features, numbers: np.ndarray) -> set[str]:
    return {features.users[number] for number in numbers.tolist()}


def test_users_are_judged_by_the_model_that_never_saw_them(
    data: tuple[Features, Knowledge], models: list[RewardModel], parts: list[FoldJudgement]
) -> None:
    features = data[0]
    for model, part in zip(models, parts, strict=True):
        own = set(fold_users(features, model))
        assert names(features, part.responses.owners) <= own
        assert names(features, part.swapped.owners) <= own
        (valid,) = part.valid
        owners = features.list_user.numpy()[valid.rows]
        assert names(features, owners) <= set(features.users_of("valid"))
        assert not set(part.fresh["user"]) & set(features.users_of("test"))


def test_texts_of_the_swap_test_are_first_responses_of_users_of_the_fold(
    data: tuple[Features, Knowledge], parts: list[FoldJudgement]
) -> None:
    knowledge = data[1]
    assert knowledge.first is not None
    first = knowledge.first.numpy()
    for part in parts:
        found = part.swapped
        for group in found.groups:
            owner = found.owners[group.start]
            texts = found.texts[group]
            assert first[owner] in texts
            assert len(set(texts.tolist())) == len(texts) == 12
        assert set(found.texts.tolist()) <= set(first[np.unique(part.responses.owners)].tolist())


def test_a_list_told_another_text_is_judged_with_that_text(
    data: tuple[Features, Knowledge], models: list[RewardModel]
) -> None:
    features, knowledge = data
    users = fold_users(features, models[0])[:2]
    assert knowledge.first is not None and knowledge.users is not None
    first, second = (int(knowledge.first[features.user_numbers[user]]) for user in users)
    rows = positive_rows(features, users[:1], "some")
    told = rows.new_full((len(rows),), second)
    found = judge_pairs(models[0].model, features, knowledge, rows, told)
    vectors = knowledge.users.clone()
    vectors[first] = vectors[second]
    exchanged = replace(knowledge, users=vectors)
    expected = judge_users(models[0], features, exchanged, users[:1])
    mine = expected.responses == first
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood[mine], atol=1e-6)
    assert found.responses.tolist() == [second] * len(rows)


def test_a_reward_that_reads_the_texts_passes_the_swap_test(
    data: tuple[Features, Knowledge], parts: list[FoldJudgement]
) -> None:
    assert data[1].first is not None
    judged = judge_round(parts, data[0])
    links = swap_links(judged.swapped, data[1].first.numpy(), 300, seed=1)
    assert all(link.holds for link in links)


def test_texts_that_tell_nothing_are_no_better_than_others() -> None:
    made = world(users=150, lists=6, noise=0.1)
    features = made.features()
    knowledge = made.knowledge(features, random_vectors(made))
    model, _ = train_fold(features, knowledge, ranker(epochs=4), "prm", SEED, 0, FOLDS)
    assert knowledge.first is not None
    found = judge_fold([model], features, knowledge, knowledge).swapped
    links = {link.name: link for link in swap_links(found, knowledge.first.numpy(), 300, seed=1)}
    assert not links["swap_own"].holds


def test_validation_users_have_the_mean_of_the_models(
    data: tuple[Features, Knowledge], parts: list[FoldJudgement]
) -> None:
    first, second = (part.valid[0] for part in parts)
    mean = mean_judged([first, second])
    np.testing.assert_allclose(mean.ndcg, (first.ndcg + second.ndcg) / 2)
    judged = judge_round(parts, data[0])
    assert len(judged.each) == 2
    np.testing.assert_allclose(judged.valid.ndcg, (judged.each[0].ndcg + judged.each[1].ndcg) / 2)
    whole = picks(judged.valid.ndcg, judged.valid.ndcg, judged.valid.groups)
    assert 0 < len(whole.best) <= len(data[0].users_of("valid"))


def test_the_response_that_models_stopped_on_is_left_out(
    data: tuple[Features, Knowledge], models: list[RewardModel], parts: list[FoldJudgement]
) -> None:
    features, knowledge = data
    assert knowledge.samples is not None and knowledge.count is not None
    (valid,) = parts[0].valid
    whole = judge_users(models[0], features, knowledge, features.users_of("valid"))
    others = knowledge.samples.numpy()[whole.responses] > 0
    assert 0 < others.sum() < len(others)
    np.testing.assert_array_equal(valid.responses, whole.responses[others])
    np.testing.assert_array_equal(valid.log_likelihood, whole.log_likelihood[others])
    two = replace(knowledge, count=knowledge.count.clamp(max=2))
    pairs = judge_users(models[0], features, two, features.users_of("valid"))
    kept = without_first(pairs, features, two)
    np.testing.assert_array_equal(kept.responses, pairs.responses)


def test_models_must_have_judged_the_same(parts: list[FoldJudgement]) -> None:
    (first,), (second,) = (part.valid for part in parts)
    other = replace(second, rows=second.rows[::-1])
    with pytest.raises(RecError, match="judged different lists"):
        mean_judged([first, other])


def test_several_models_of_a_fold_count_as_their_mean(
    data: tuple[Features, Knowledge], models: list[RewardModel], parts: list[FoldJudgement]
) -> None:
    features, knowledge = data
    again, _ = train_fold(*data, ranker(epochs=10), "prm", SEED, 0, FOLDS, number=1)
    assert again.fold == 0
    alone = judge_fold([again], features, knowledge, knowledge)
    both = judge_fold([models[0], again], features, knowledge, knowledge)
    assert len(both.valid) == 2
    for name in ("responses", "swapped"):
        first, second, mean = (getattr(part, name) for part in (parts[0], alone, both))
        assert not np.allclose(first.ndcg, second.ndcg)
        np.testing.assert_allclose(mean.ndcg, (first.ndcg + second.ndcg) / 2)
    scored = mean_over_folds([both.fresh])
    assert scored.select("user", "sample").is_unique().all()
    assert set(scored["user"]) == set(parts[0].fresh["user"])


def test_at_most_so_many_users_by_a_hash(
    data: tuple[Features, Knowledge], models: list[RewardModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = chosen_users(data[0], models[0])
    assert every == fold_users(data[0], models[0])
    monkeypatch.setattr("rec.mediation.judging.USERS", 5)
    few = chosen_users(data[0], models[0])
    assert len(few) == 5
    assert few == sorted(few, key=every.index)
    assert few != every[:5]


def test_swaps_are_others_and_each_once() -> None:
    found = swaps(30, 11, seed=4)
    assert found.shape == (30, 12)
    assert found[:, 0].tolist() == list(range(30))
    assert all(len(set(row)) == 12 for row in found.tolist())
    assert found.min() == 0 and found.max() == 29
    assert swaps(3, 11, seed=4).shape == (3, 3)
    assert not np.array_equal(swaps(30, 11, seed=5), found)
