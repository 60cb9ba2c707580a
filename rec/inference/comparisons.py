"""One prepared user: what LLMs write, what it is worth, and how it ranks one of the lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch

from rec import layout
from rec.config import Params
from rec.errors import RecError
from rec.inference.histories import prepared_rows
from rec.inference.rankings import TextVectors, load_reranker, ranks
from rec.knowledge import told_vectors
from rec.rerank.features import Features, Knowledge, build_features, item_knowledge, user_knowledge
from rec.rerank.metrics import ndcg
from rec.rerank.ranking import rank
from rec.rerank.reranker import Reranker
from rec.reward import RewardModel, mean_over_folds, score_fold, score_valid
from rec.tables import SCORES, vectors_schema


@dataclass(frozen=True)
class Subject:
    """A prepared user, by rows of the tables INTERACTIONS, LISTS and PROMPTS."""

    interactions: pl.DataFrame
    lists: pl.DataFrame
    prompt: pl.DataFrame

    def features(self, items: pl.DataFrame, params: Params) -> Features:
        """The user's lists, each with what lies before it."""
        scale = (params.data.rating_minimum, params.data.rating_maximum)
        return build_features(items, self.interactions, self.lists, params.ranker.history, scale)


@dataclass(frozen=True)
class Told:
    """What an LLM wrote about the user, and the re-ranker that learned from its texts."""

    texts: pl.DataFrame  # key, sample, text; sorted
    vectors: TextVectors  # for the re-ranker
    judged: TextVectors  # for the reward models
    weights: Path


@dataclass(frozen=True)
class RankedList:
    """A list as a re-ranker ranks it."""

    ranks: tuple[int, ...]  # of the items, as they stand in the list; from 1
    ndcg: float  # at 5


@dataclass(frozen=True)
class Side:
    """What an LLM's texts are worth. `rewards` are SCORES: no rows where no model may judge."""

    rewards: pl.DataFrame
    ranked: RankedList


@dataclass(frozen=True)
class Compared:
    """One list of a user: ranked by popularity or as shown, without texts, and with each LLM's."""

    row: int  # of the table LISTS
    first: RankedList
    without: RankedList
    sides: tuple[Side, ...]


class Comparer:
    """Judges what LLMs write about a user.

    `models` are a round's reward models, `without` is a file of the re-ranker that knows no text.
    """

    def __init__(
        self,
        params: Params,
        items: pl.DataFrame,
        item_vectors: pl.DataFrame,
        models: Sequence[RewardModel],
        without: Path,
    ) -> None:
        self.params, self.items, self.item_vectors = params, items, item_vectors
        self.models, self.without = models, without

    def compare(
        self, subject: Subject, told: Sequence[Told], number: int | None, sample: int
    ) -> Compared:
        """Compare on list `number` of the user (the first with a liked item where it is None).

        The list is ranked with the texts of this `sample`. Raises RecError for a list or a sample
        that is not there.
        """
        features = subject.features(self.items, self.params)
        row = _row(features, number)
        untold = load_reranker(self.without, self.items, texts=False)
        return Compared(
            row,
            _as_it_stands(features, row),
            _ranked(untold, features, None, row, 0),
            tuple(self._side(features, subject, one, row, sample) for one in told),
        )

    def _side(
        self, features: Features, subject: Subject, told: Told, row: int, sample: int
    ) -> Side:
        texts = told.texts
        if sample not in texts["sample"]:
            samples = ", ".join(map(str, texts["sample"]))
            raise RecError(f"sample {sample} is not there; the samples are {samples}")
        place = texts["sample"].to_list().index(sample)
        items = item_knowledge(features, self.item_vectors)
        judged, knowledge = (
            user_knowledge(features, items, one.texts, subject.prompt, one.histories)
            for one in (told.judged, told.vectors)
        )
        model = load_reranker(told.weights, self.items, texts=True)
        return Side(
            rewards(self.models, features, judged),
            _ranked(model, features, knowledge, row, place),
        )


def stored_vectors(key: str, policy: str, kind: str, item_vectors: pl.DataFrame) -> TextVectors:
    """The vectors that the pipeline made of a policy's texts about a user.

    `kind` is `knowledge.text` or `reward.text`. Raises RecError where there are none.
    """
    (width,) = item_vectors["vector"].to_numpy().shape[1:]
    schema = vectors_schema(width)
    texts = prepared_rows(key, told_vectors(policy, kind), schema, "key")
    if kind != "both":
        return TextVectors(texts)
    return TextVectors(texts, prepared_rows(key, layout.HISTORY_VECTORS, schema, "key"))


def rewards(
    models: Sequence[RewardModel], features: Features, knowledge: Knowledge
) -> pl.DataFrame:
    """SCORES of the only user's texts by the models that may judge the user; else no rows.

    Those are the model of a train user's fold, and all models for a validation user, whose mean it
    is. Lists without a positive do not count.
    """
    (user,), (split,) = features.users, features.splits
    score = score_fold if split == "train" else score_valid
    judges = [model for model in models if model.may_score(user, split)]
    tables = [pl.DataFrame(schema=dict(SCORES))]
    return mean_over_folds(tables + [score(model, features, knowledge) for model in judges])


def _row(features: Features, number: int | None) -> int:
    if number is None:
        liked = features.positive.nonzero().flatten()
        return int(liked[0]) if len(liked) else 0
    if not 1 <= number <= len(features.lists):
        raise RecError(f"list {number} is not there; the user has lists 1 to {len(features.lists)}")
    return number - 1


def _as_it_stands(features: Features, row: int) -> RankedList:
    labels = features.labels[row][features.items[row] > 0].cpu().numpy()
    places = range(1, len(labels) + 1)
    return RankedList(tuple(places), float(ndcg([[-place for place in places]], [labels], 5)[0]))


def _ranked(
    model: Reranker, features: Features, knowledge: Knowledge | None, row: int, text: int
) -> RankedList:
    """A list ranked with the text of place `text`."""
    ranked = rank(model, features, knowledge, torch.tensor([row], device=features.items.device))
    real = features.items[row] > 0
    scores = ranked.scores[text][real].double().cpu().numpy()
    labels = ranked.labels[text][real].cpu().numpy()
    return RankedList(tuple(ranks(scores).tolist()), float(ndcg([scores], [labels], 5)[0]))
