"""Ranking lists with a trained re-ranker, and what the rankings are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from rec.errors import RecError
from rec.rerank.features import Features, Knowledge, batch
from rec.rerank.losses import log_likelihood
from rec.rerank.metrics import average_precision, ndcg
from rec.rerank.reranker import Reranker

Floats = npt.NDArray[np.float64]

EVALUATION_ROWS = 2048


@dataclass(frozen=True)
class Judged:
    """Metrics of M lists, each re-ranked with one response (or with none): arrays of [M]."""

    rows: npt.NDArray[np.int64]  # the list
    responses: npt.NDArray[np.int64]  # the row of the response in Knowledge; -1 without
    ndcg: Floats
    average_precision: Floats
    log_likelihood: Floats


def positive_rows(features: Features, users: list[str], name: str) -> Tensor:
    """The lists of `users` that hold a positive. Raises RecError where there is none."""
    rows = features.rows(users)
    rows = rows[features.positive[rows]]
    if len(rows) == 0:
        raise RecError(f"no list of the {name} users holds a liked item; keep more users or lists")
    return rows


@dataclass(frozen=True)
class Ranked:
    """M lists, each ranked with one response (or with none)."""

    rows: npt.NDArray[np.int64]  # [M] the list
    responses: npt.NDArray[np.int64]  # [M] the row of the response in Knowledge; -1 without
    scores: Tensor  # [M, n], minus infinity at padding
    labels: Tensor  # [M, n]


def rank(model: Reranker, features: Features, knowledge: Knowledge | None, rows: Tensor) -> Ranked:
    """Score the lists `rows` with every response of their users (once where there are none)."""
    return _rank(model, features, model.inputs.prepared(knowledge), rows)


@torch.inference_mode()
def _rank(
    model: Reranker,
    features: Features,
    prepared: Knowledge | None,
    rows: Tensor,
    responses: Tensor | None = None,
) -> Ranked:
    """Score lists, told what `Inputs.prepared` gave: row by row `responses`, or all of the user."""
    model.eval()
    if responses is None and prepared is not None and prepared.users is not None:
        rows, responses = _with_responses(features, prepared, rows)
    scores = []
    for start in range(0, len(rows), EVALUATION_ROWS):
        part = slice(start, start + EVALUATION_ROWS)
        chosen = None if responses is None else responses[part]
        scores.append(model(batch(features, prepared, rows[part], chosen)))
    numbers = np.full(len(rows), -1) if responses is None else responses.cpu().numpy()
    return Ranked(rows.cpu().numpy(), numbers, torch.cat(scores), features.labels[rows])


def judge(model: Reranker, features: Features, knowledge: Knowledge | None, rows: Tensor) -> Judged:
    """Re-rank the lists `rows` with every response of their users (once where there are none)."""
    return _judged(rank(model, features, knowledge, rows))


def judge_prepared(
    model: Reranker, features: Features, prepared: Knowledge | None, rows: Tensor
) -> Judged:
    """As `judge`, with knowledge that `Inputs.prepared` gave: for one who ranks often."""
    return _judged(_rank(model, features, prepared, rows))


def judge_pairs(
    model: Reranker, features: Features, knowledge: Knowledge, rows: Tensor, responses: Tensor
) -> Judged:
    """Re-rank the lists `rows` [M], each with one response row [M] of anybody's."""
    prepared = model.inputs.prepared(knowledge)
    return _judged(_rank(model, features, prepared, rows, responses))


def _judged(ranked: Ranked) -> Judged:
    scores, labels = ranked.scores, ranked.labels
    mask = ~scores.isneginf()
    return Judged(
        ranked.rows,
        ranked.responses,
        ndcg(scores, labels, 5, mask),
        average_precision(scores, labels, 5, mask),
        log_likelihood(scores, labels).double().cpu().numpy(),
    )


def _with_responses(
    features: Features, knowledge: Knowledge, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Repeat each list once per response of its user."""
    assert knowledge.first is not None and knowledge.count is not None
    owner = features.list_user[rows]
    count = knowledge.count[owner]
    ends = count.cumsum(0)
    place = torch.arange(int(ends[-1]), device=rows.device)
    place = place - (ends - count).repeat_interleave(count)
    return rows.repeat_interleave(count), knowledge.first[owner].repeat_interleave(count) + place


def user_table(features: Features, judged: Judged) -> pl.DataFrame:
    """Per user that has judged lists the means over the user's lists and responses.

    Columns user, split, ndcg@5 and log_likelihood, in the order of the lists.
    """
    owners = features.list_user.cpu().numpy()[judged.rows]
    table = pl.DataFrame(
        {
            "user": pl.Series(features.users, dtype=pl.String).gather(owners),
            "split": pl.Series(features.splits, dtype=pl.String).gather(owners),
            "ndcg@5": judged.ndcg,
            "log_likelihood": judged.log_likelihood,
        }
    )
    return table.group_by("user", "split", maintain_order=True).mean()


def user_means(features: Features, judged: Judged) -> Floats:
    """NDCG@5 per user that has judged lists: the mean over the user's lists and responses."""
    owner = features.list_user.cpu().numpy()[judged.rows]
    count = np.bincount(owner)
    means: Floats = np.bincount(owner, weights=judged.ndcg)[count > 0] / count[count > 0]
    return means
