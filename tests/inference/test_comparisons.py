"""rec.inference.comparisons: rewards and rankings of one prepared user are the pipeline's."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from rec import layout
from rec.config import Params
from rec.errors import RecError
from rec.inference.comparisons import Compared, Comparer, Subject, Told, stored_vectors
from rec.inference.histories import prepared_rows
from rec.knowledge import read_vectors
from rec.rerank.metrics import ndcg
from rec.rerank.ranking import rank
from rec.rerank.reranker import load
from rec.reward import fold_of, load_models, mean_over_folds, score_fold, score_valid
from rec.tables import INTERACTIONS, LISTS, PROMPTS, RESPONSES
from tests.inference.project import SIZE, SPLITS, items_table, project_features, project_knowledge


def subject(user: str) -> Subject:
    tables = (
        (layout.INTERACTIONS, INTERACTIONS),
        (layout.LISTS, LISTS),
        (layout.PROMPTS, PROMPTS),
    )
    return Subject(*(prepared_rows(user, path, schema) for path, schema in tables))


def compared(user: str, params: Params, number: int | None = None, sample: int = 0) -> Compared:
    items = read_vectors(layout.ITEM_VECTORS)
    models, without = load_models(layout.reward(1)), layout.reranker("none", "prm", 1)
    key = f"user:{user}"
    told = [
        Told(
            prepared_rows(key, layout.responses(policy), RESPONSES, "key"),
            stored_vectors(key, policy, params.knowledge.text, items),
            stored_vectors(key, policy, params.reward.text, items),
            layout.reranker(policy, "prm", 1),
        )
        for policy in ("0", "1")
    ]
    comparer = Comparer(params, items_table(), items, models, without)
    return comparer.compare(subject(user), told, number, sample)


@pytest.mark.parametrize("user", SPLITS)
def test_rewards_are_the_scores_of_the_round(user: str, params: Params) -> None:
    features = project_features(layout.DATA.parent, params)
    models = load_models(layout.reward(1))
    for policy, side in zip(("0", "1"), compared(user, params).sides, strict=True):
        text = params.reward.text
        knowledge = project_knowledge(layout.DATA.parent, features, policy, text)
        tables = [
            score(model, features, knowledge)
            for model in models
            for score in (score_fold, score_valid)
        ]
        expected = mean_over_folds(tables).filter(user=user)
        assert expected.height == (0 if SPLITS[user] == "test" else 2)
        columns = ["sample", "fold", "ndcg@5", "map@5", "lists"]
        assert side.rewards.select(columns).equals(expected.select(columns))
        if SPLITS[user] == "train":
            assert set(expected["fold"]) == {fold_of(params.seed, user, 2)}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("sample", [0, 1])
def test_the_list_is_ranked_as_the_comparison_ranks_it(
    number: int, sample: int, params: Params
) -> None:
    features = project_features(layout.DATA.parent, params)
    row = features.lists.index(f"10-{number - 1}")
    found = compared("10", params, number, sample)
    assert found.row == number - 1
    assert found.first.ranks == tuple(range(1, SIZE + 1))
    for variant, ranked in (
        ("none", found.without),
        ("0", found.sides[0].ranked),
        ("1", found.sides[1].ranked),
    ):
        knowledge = None
        if variant != "none":
            text = params.knowledge.text
            knowledge = project_knowledge(layout.DATA.parent, features, variant, text)
        model = load(layout.reranker(variant, "prm", 1), "cpu")
        scores = rank(model, features, knowledge, torch.tensor([row])).scores
        mine = scores[0 if variant == "none" else sample]
        order = torch.argsort(-mine, stable=True).tolist()
        assert [ranked.ranks[place] for place in order] == list(range(1, SIZE + 1))
        assert ranked.ndcg == pytest.approx(ndcg([mine.tolist()], [features.labels[row]], 5)[0])


def test_the_first_list_with_a_liked_item_is_taken(params: Params) -> None:
    chosen = subject("10")
    unliked = chosen.lists.with_columns(
        labels=pl.when(pl.col("list") == "10-0").then(pl.lit([0] * SIZE)).otherwise("labels")
    ).cast({"labels": pl.List(pl.Int8)})
    items = read_vectors(layout.ITEM_VECTORS)
    comparer = Comparer(params, items_table(), items, [], layout.reranker("none", "prm", 1))
    other = Subject(chosen.interactions, unliked, chosen.prompt)
    assert comparer.compare(other, [], None, 0).row == 1
    assert compared("10", params).row == 0


@pytest.mark.parametrize(
    ("number", "sample", "said"),
    [
        (3, 0, "list 3 is not there; the user has lists 1 to 2"),
        (1, 5, "sample 5 is not there; the samples are 0, 1"),
    ],
)
def test_what_is_not_there(number: int, sample: int, said: str, params: Params) -> None:
    with pytest.raises(RecError, match=said):
        compared("10", params, number, sample)
