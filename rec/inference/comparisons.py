"""One prepared user: what two LLMs write, what it is worth, and how it ranks the user's lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import torch

from rec.config import Params
from rec.inference.rankings import ranks, text_knowledge
from rec.knowledge import Encoder
from rec.rerank.features import Features, Knowledge, build_features
from rec.rerank.metrics import ndcg
from rec.rerank.ranking import rank
from rec.rerank.reranker import Reranker
from rec.reward import RewardModel, mean_over_folds, score_fold, score_valid
from rec.tables import SCORES


@dataclass(frozen=True)
class Subject:
    """A prepared user, by rows of the tables INTERACTIONS, LISTS and PROMPTS."""

    interactions: pl.DataFrame
    lists: pl.DataFrame
    prompt: pl.DataFrame

    def features(self, items: pl.DataFrame, params: Params) -> Features:
        """The user's lists with what lies before them."""
        scale = (params.data.rating_minimum, params.data.rating_maximum)
        return build_features(items, self.interactions, self.lists, params.ranker.history, scale)

    def knowledge(
        self,
        features: Features,
        item_vectors: pl.DataFrame,
        written: pl.DataFrame,
        encoder: Encoder,
        params: Params,
    ) -> Knowledge:
        """The knowledge of texts about the user (key, sample, text)."""
        kind = params.knowledge.text
        return text_knowledge(features, item_vectors, written, self.prompt, encoder, kind)


def rewards(
    models: Sequence[RewardModel], features: Features, knowledge: Knowledge
) -> pl.DataFrame:
    """SCORES of a user's texts by the models that may judge the user; no row where none may.

    Those are the model of a train user's fold, and all models for a validation user, whose mean it
    is. Lists without a positive do not count.
    """
    (user,), (split,) = features.users, features.splits
    score = score_fold if split == "train" else score_valid
    judges = [model for model in models if model.may_score(user, split)]
    tables = [pl.DataFrame(schema=dict(SCORES))]
    return mean_over_folds(tables + [score(model, features, knowledge) for model in judges])


@dataclass(frozen=True)
class RankedList:
    """A list as a re-ranker ranks it."""

    ranks: tuple[int, ...]  # of the items, as they stand in the list; from 1
    ndcg: float  # at 5


def rank_list(
    model: Reranker, features: Features, knowledge: Knowledge | None, number: int, text: int
) -> RankedList:
    """List `number` of the only user, ranked with the user's text of place `text`.

    Raises RecError for a score that is not a number.
    """
    rows = torch.tensor([number], device=features.items.device)
    ranked = rank(model, features, knowledge, rows)
    real = ranked.scores[text].isneginf().logical_not()
    scores = ranked.scores[text][real].double().cpu().numpy()
    labels = ranked.labels[text][real].cpu().numpy()
    return RankedList(tuple(ranks(scores).tolist()), float(ndcg([scores], [labels], 5)[0]))
