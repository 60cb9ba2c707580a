"""Candidates ranked for a history, with a profile's knowledge and without.

Both ranks are those of re-rankers of the comparison: one that learned from a policy's texts, and
one of the variant `none`, which knows no text. Neither has a vector per user: what is known of one
is the history, so that a new user is as good as any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from rec.config import SHOWN, Params, protocols
from rec.errors import RecError
from rec.inference.histories import NEW, History, interactions
from rec.knowledge import Encoder, joint_texts, vectors_table
from rec.machine import device
from rec.rerank.features import (
    Features,
    Knowledge,
    build_features,
    item_knowledge,
    user_knowledge,
)
from rec.rerank.ranking import rank
from rec.rerank.reranker import Reranker, load
from rec.tables import LISTS, Schema

#: Texts about users, and what the LLM read of them: columns of RESPONSES and of PROMPTS.
TEXTS: Schema = {"key": pl.String, "sample": pl.Int32, "text": pl.String}
ASKED: Schema = {"key": pl.String, "user": pl.String, "history": pl.String}

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_CELLS = 2**23  # of the attention over the lists that are ranked together


@dataclass(frozen=True)
class Task:
    """A list to rank for a user, by what was written about the user."""

    user: str  # each task's own
    history: History
    text: str  # the history as plain text, which its prompt holds
    profiles: tuple[str, ...]
    candidates: tuple[str, ...]  # each once


@dataclass(frozen=True)
class TextVectors:
    """Vectors of texts about users, and of their histories where re-rankers are told them too."""

    texts: pl.DataFrame
    histories: pl.DataFrame | None = None


@dataclass(frozen=True)
class Place:
    """A candidate's place in a ranking, from 1."""

    item: str
    rank: int
    score: float  # the mean over the profiles; only differences within a list mean something
    rank_without: int  # by the re-ranker that knows no text
    score_without: float

    @property
    def change(self) -> int:
        """By how many places the knowledge moved the candidate up."""
        return self.rank_without - self.rank


class Ranker:
    """Ranks lists by two trained re-rankers, one of which is told profiles.

    `weights` and `weights_without` are files of re-rankers, `item_vectors` the vectors of the
    table ITEMS. Raises RecError where a file is missing or of another catalogue.
    """

    def __init__(
        self,
        params: Params,
        items: pl.DataFrame,
        item_vectors: pl.DataFrame,
        encoder: Encoder,
        weights: Path,
        weights_without: Path,
    ) -> None:
        self.params, self.items, self.item_vectors = params, items, item_vectors
        self.encoder = encoder
        self.told = load_reranker(weights, items, texts=True)
        self.untold = load_reranker(weights_without, items, texts=False)
        main = protocols(params.data, params.prepare)[0]
        self.order = {} if main == SHOWN else dict(items.select("item", "rank").iter_rows())

    def rank(self, tasks: Sequence[Task]) -> list[list[Place]]:
        """The ranking of each task, best first.

        Candidates are taken in the order in which re-rankers learned to see them: by popularity, or
        as given where the data's lists were shown; equal scores keep it.
        """
        lists = [self._ordered(task) for task in tasks]
        places: list[list[Place]] = [[] for _ in tasks]
        for numbers in _groups([len(candidates) for candidates in lists]):
            group, chosen = [tasks[n] for n in numbers], [lists[n] for n in numbers]
            for number, ranked in zip(numbers, self._ranked(group, chosen), strict=True):
                places[number] = ranked
        return places

    def _ordered(self, task: Task) -> list[str]:
        return sorted(task.candidates, key=lambda item: self.order.get(item, 0))

    def _ranked(self, tasks: Sequence[Task], lists: Sequence[list[str]]) -> list[list[Place]]:
        data = self.params.data
        features = build_features(
            self.items,
            interactions({task.user: task.history for task in tasks}),
            _lists(tasks, lists),
            self.told.config.history,
            (data.rating_minimum, data.rating_maximum),
        )
        written = pl.DataFrame(
            [(task.user, n, text) for task in tasks for n, text in enumerate(task.profiles)],
            schema=dict(TEXTS),
            orient="row",
        )
        asked = [(task.user, task.user, task.text) for task in tasks]
        prompts = pl.DataFrame(asked, schema=dict(ASKED), orient="row")
        vectors = encoded(written, prompts, self.encoder, self.params.knowledge.text)
        items = item_knowledge(features, self.item_vectors)
        knowledge = user_knowledge(features, items, vectors.texts, prompts, vectors.histories)
        told = _scores(self.told, features, knowledge)
        untold = _scores(self.untold, features, None)
        return [
            _places(candidates, told[row, : len(candidates)], untold[row, : len(candidates)])
            for row, candidates in enumerate(lists)
        ]


def encoded(
    written: pl.DataFrame, prompts: pl.DataFrame, encoder: Encoder, kind: str
) -> TextVectors:
    """What re-rankers are told of texts about users; `kind` is `knowledge.text` or `reward.text`.

    `written` has the columns of TEXTS, `prompts` those of ASKED; both may have more.
    """

    def vectors(keys: pl.Series, samples: list[int], texts: pl.Series) -> pl.DataFrame:
        return vectors_table(keys.to_list(), samples, encoder.encode(texts.to_list()))

    texts = joint_texts(written, prompts) if kind == "joint" else written["text"]
    told = vectors(written["key"], written["sample"].to_list(), texts)
    if kind != "both":
        return TextVectors(told)
    return TextVectors(told, vectors(prompts["key"], [0] * prompts.height, prompts["history"]))


def load_reranker(weights: Path, items: pl.DataFrame, *, texts: bool) -> Reranker:
    """A re-ranker that is told `texts` about users, or none.

    Raises RecError where the file is missing, another kind's, or of another catalogue than `items`.
    """
    model = load(weights, device())
    if bool(model.shape.texts) != texts:
        told = "no text" if texts else "texts"
        raise RecError(f"{weights}: a re-ranker that is told {told}; train it again")
    categories = items.explode("categories")["categories"].drop_nulls().n_unique()
    for name, count, expected in (
        ("items", model.shape.items, items.height),
        ("categories", model.shape.categories, max(1, categories)),
    ):
        if count != expected:
            raise RecError(
                f"{weights}: trained with {count} {name}, and the catalogue has {expected};"
                " train it again (`dvc repro`)"
            )
    return model


def _groups(sizes: Sequence[int]) -> Iterator[list[int]]:
    """The numbers of lists of like sizes, so many together as memory is for."""
    group: list[int] = []
    for number in sorted(range(len(sizes)), key=lambda number: sizes[number]):
        if group and (len(group) + 1) * sizes[number] ** 2 > _CELLS:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _lists(tasks: Sequence[Task], lists: Sequence[list[str]]) -> pl.DataFrame:
    rows = [
        (task.user, task.user, NEW, len(task.history), candidates, [0] * len(candidates))
        for task, candidates in zip(tasks, lists, strict=True)
    ]
    return pl.DataFrame(rows, schema=dict(LISTS), orient="row")


def _scores(model: Reranker, features: Features, knowledge: Knowledge | None) -> Floats:
    """Scores [lists, n], the mean over the texts of each list's user."""
    rows = features.rows(features.users)
    ranked = rank(model, features, knowledge, rows)
    scores = ranked.scores.double().cpu().numpy()
    starts = np.flatnonzero(np.diff(ranked.rows, prepend=-1))
    counts = np.diff(np.append(starts, len(scores)))
    means: Floats = np.add.reduceat(scores, starts) / counts[:, None]
    return means


def ranks(scores: Floats) -> Integers:
    """Each score's place among [n], from 1; equal ones stand as they stood.

    Raises RecError for a score that is not a number.
    """
    if not np.isfinite(scores).all():
        raise RecError("a re-ranker gave a score that is not a number; train it again")
    places = np.empty(len(scores), dtype=np.int64)
    places[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return places


def _places(candidates: Sequence[str], told: Floats, untold: Floats) -> list[Place]:
    columns = (ranks(told), told, ranks(untold), untold)
    rows = zip(candidates, *(column.tolist() for column in columns), strict=True)
    return sorted((Place(*row) for row in rows), key=lambda place: place.rank)
