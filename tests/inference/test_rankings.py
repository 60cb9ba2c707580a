"""rec.inference.rankings: ranks are those of the re-rankers, whoever the user is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rec import layout
from rec.config import Params
from rec.errors import RecError
from rec.inference.histories import History, prepared_history
from rec.inference.rankings import Place, Ranker, Task, _groups, ranks
from rec.knowledge import Encoder, read_vectors
from rec.rerank.ranking import rank
from rec.rerank.reranker import load, save
from tests.inference.project import (
    FILMS,
    SIZE,
    items_table,
    project_features,
    project_knowledge,
    write_project,
)

ITEMS = [film[0] for film in FILMS]
CANDIDATES = ("8", "118", "100", "1", "135")
OPEN = Callable[..., Ranker]


def open_ranker(params: Params, variant: str = "0", backbone: str = "prm") -> Ranker:
    """The ranker of the project in the current folder."""
    encoder = Encoder(layout.RAW_ENCODER, params.encoder.max_tokens, params.encoder.batch_size)
    weights = [layout.reranker(name, backbone, 1) for name in (variant, "none")]
    return Ranker(params, items_table(), read_vectors(layout.ITEM_VECTORS), encoder, *weights)


def task(user: str = "you", candidates: tuple[str, ...] = CANDIDATES, *texts: str) -> Task:
    history = History(("50", "12", "187"), (5.0, 2.0, 4.0))
    return Task(user, history, "Loved films: Star Wars", texts or ("loved war",), candidates)


@pytest.mark.parametrize("kind", ["response", "joint", "both"])
def test_ranks_are_those_of_the_comparison(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a prepared user with the pipeline's own lists, histories and texts, all told together."""
    from rec.params import load_params

    write_project(tmp_path, kind)
    monkeypatch.chdir(tmp_path)
    params = load_params(tmp_path / "params.yaml")
    features = project_features(tmp_path, params)
    knowledge = project_knowledge(tmp_path, features, "0", kind)
    rows = torch.tensor([n for n, name in enumerate(features.lists) if name.endswith("-0")])
    told = rank(load(layout.reranker("0", "prm", 1), "cpu"), features, knowledge, rows)
    untold = rank(load(layout.reranker("none", "prm", 1), "cpu"), features, None, rows)
    means = told.scores.reshape(len(rows), 2, -1).mean(1)
    lists = pl.read_parquet(layout.LISTS).filter(pl.col("list").str.ends_with("-0"))
    read = dict(pl.read_parquet(layout.PROMPTS).select("user", "history").iter_rows())
    texts = pl.read_parquet(layout.responses("0"))
    tasks = [
        Task(
            user,
            prepared_history(user, layout.INTERACTIONS),
            read[user],
            tuple(texts.filter(key=f"user:{user}")["text"]),
            tuple(items),
        )
        for user, items in lists.select("user", "items").iter_rows()
    ]
    places = open_ranker(params).rank(tasks)
    for number, own in enumerate(places):
        items = lists["items"][number].to_list()
        for found, expected in (("score", means), ("score_without", untold.scores)):
            by_item = {place.item: getattr(place, found) for place in own}
            assert [by_item[item] for item in items] == pytest.approx(
                expected[number].tolist(), abs=0.02
            )  # vectors differ in their last bits between batches
    assert [place.rank for place in places[0]] == list(range(1, SIZE + 1))


@pytest.mark.parametrize("backbone", ["prm", "dlcm"])
def test_a_list_does_not_depend_on_those_beside_it(backbone: str, params: Params) -> None:
    ranker = open_ranker(params, "1", backbone)
    tasks = [
        task("a", CANDIDATES),
        task("b", ("8",)),
        task("c", tuple(ITEMS), "loved war", "film love"),
    ]
    together = ranker.rank(tasks)
    for own, alone in zip(together, [ranker.rank([one])[0] for one in tasks], strict=True):
        assert [place.item for place in own] == [place.item for place in alone]
        assert [place.score for place in own] == pytest.approx([p.score for p in alone], abs=1e-3)
    assert [len(own) for own in together] == [5, 1, len(ITEMS)]
    assert together[1][0].rank == together[1][0].rank_without == 1


def test_several_profiles_count_as_their_mean(params: Params) -> None:
    ranker = open_ranker(params)
    texts = ("loved war", "film love", "sep")
    apart = [
        {p.item: p.score for p in ranker.rank([task("u", CANDIDATES, text)])[0]} for text in texts
    ]
    (both,) = ranker.rank([task("u", CANDIDATES, *texts)])
    for place in both:
        assert place.score == pytest.approx(np.mean([one[place.item] for one in apart]), abs=0.01)


def test_what_matters_is_the_text_and_the_history(params: Params) -> None:
    ranker = open_ranker(params)
    (first,), (other_text,) = (
        ranker.rank([task()]),
        ranker.rank([task("you", CANDIDATES, "film sep")]),
    )
    assert [p.score for p in first] != [p.score for p in other_text]
    without = [{p.item: p.score_without for p in own} for own in (first, other_text)]
    assert without[0] == without[1]
    other = replace(task(), history=History(("100",), (1.0,)))
    (changed,) = ranker.rank([other])
    assert {p.item: p.score_without for p in changed} != without[0]
    renamed = ranker.rank([task("anyone else")])[0]
    assert renamed == first


def test_the_order_in_which_candidates_are_given(params: Params) -> None:
    """By popularity re-rankers learned, so it counts for nothing; as shown, it counts."""
    backwards = task("you", CANDIDATES[::-1])
    ranker = open_ranker(params)
    assert ranker.rank([backwards]) == ranker.rank([task()])
    tabular = params.data.tabular
    shown = replace(tabular, impressions=replace(tabular.impressions, file="log.csv"))
    ranker = open_ranker(replace(params, data=replace(params.data, tabular=shown)))
    assert ranker.rank([backwards]) != ranker.rank([task()])


def test_a_place_says_what_changed() -> None:
    place = Place("1", rank=2, score=1.0, rank_without=5, score_without=0.0)
    assert place.change == 3


def damaged(small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(small_project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")


def test_rerankers_of_another_kind(params: Params, small_project: Path) -> None:
    with pytest.raises(RecError, match="a re-ranker that is told no text; train it again"):
        open_ranker(params, "none")


def test_rerankers_of_another_catalogue(params: Params) -> None:
    encoder = Encoder(layout.RAW_ENCODER, 24, 4)
    weights = [layout.reranker(name, "prm", 1) for name in ("0", "none")]
    for items, said in (
        (items_table().head(-1), "trained with 20 items, and the catalogue has 19"),
        (
            items_table().with_columns(categories=pl.lit(["Drama"])),
            r"trained with \d+ categories, and the catalogue has 1",
        ),
    ):
        with pytest.raises(RecError, match=said):
            Ranker(params, items, read_vectors(layout.ITEM_VECTORS), encoder, *weights)


def test_a_score_that_is_not_a_number(
    params: Params, small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged(small_project, tmp_path, monkeypatch)
    path = layout.reranker("0", "prm", 1)
    model = load(path, "cpu")
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    save(model, path)
    with pytest.raises(RecError, match="a score that is not a number"):
        open_ranker(params).rank([task()])


@given(st.lists(st.integers(1, 5000), max_size=40))
def test_lists_are_ranked_in_groups_that_memory_is_for(sizes: list[int]) -> None:
    groups = list(_groups(sizes))
    assert sorted(number for group in groups for number in group) == list(range(len(sizes)))
    for group in groups:
        largest = max(sizes[number] for number in group)
        assert len(group) == 1 or len(group) * largest**2 <= 2**23


@given(st.lists(st.integers(-3, 3), min_size=1))
def test_equal_scores_stand_as_they_stood(scores: list[int]) -> None:
    found = ranks(np.array(scores, dtype=np.float64)).tolist()
    assert sorted(found) == list(range(1, len(scores) + 1))
    order = sorted(range(len(scores)), key=lambda n: found[n])
    assert order == sorted(range(len(scores)), key=lambda n: -scores[n])
