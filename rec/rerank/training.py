"""Training a re-ranker, and the worth of responses by a trained one."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rec.config import Ranker
from rec.errors import RecError
from rec.progress import bar
from rec.rerank.features import Features, Knowledge, batch
from rec.rerank.inputs import ITEMS, USERS, Shape
from rec.rerank.losses import log_likelihood
from rec.rerank.metrics import average_precision, ndcg
from rec.rerank.reranker import Reranker

Floats = npt.NDArray[np.float64]

EVALUATION_ROWS = 2048


@dataclass(frozen=True)
class Epoch:
    """One point of a training curve."""

    epoch: int
    train_loss: float
    valid_ndcg: float  # NDCG@5, mean over users of the mean over a user's lists


@dataclass(frozen=True)
class Trained:
    """A re-ranker with the weights of its best epoch, and how it came about."""

    model: Reranker
    curve: list[Epoch]
    best: Epoch

    def as_json(self) -> dict[str, Any]:
        """The curve and the best epoch, for a metrics file."""
        points = [
            {"epoch": e.epoch, "train_loss": e.train_loss, "valid_ndcg@5": e.valid_ndcg}
            for e in self.curve
        ]
        best = {"best_epoch": self.best.epoch, "valid_ndcg@5": self.best.valid_ndcg}
        return {**best, "curve": points}


@dataclass(frozen=True)
class Judged:
    """Metrics of M lists, each re-ranked with one response (or with none): arrays of [M]."""

    rows: npt.NDArray[np.int64]  # the list
    responses: npt.NDArray[np.int64]  # the row of the response in Knowledge; -1 without
    ndcg: Floats
    average_precision: Floats
    log_likelihood: Floats


def train(
    features: Features,
    knowledge: Knowledge | None,
    config: Ranker,
    backbone: str,
    seed: int,
    train_users: list[str],
    valid_users: list[str],
) -> Trained:
    """Train a fresh re-ranker on the lists of `train_users`, stop early on `valid_users`.

    In every epoch each list is shown with one response of its user, drawn at random, so that the
    model learns from all of them. Validation lists are ranked with their user's first response: how
    many others there are (`sampling.responses_valid`) does not move the best epoch. Lists without a
    positive teach nothing and are left out. The same arguments give the same weights on a CPU.

    Raises RecError where no list holds a positive and where the loss is not finite.
    """
    rows, valid_rows = (
        positive_rows(features, users, name)
        for users, name in ((train_users, "training"), (valid_users, "validation"))
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _fresh(features, knowledge, config, backbone, train_users)
        prepared = model.inputs.prepared(knowledge)
        told = None if prepared is None else prepared.first_responses()
        optimizer = _optimizer(model, config)
        generator = torch.Generator().manual_seed(seed)
        curve: list[Epoch] = []
        best, best_weights = -math.inf, model.state_dict()
        with bar("train", config.epochs, "epoch") as counter:
            for epoch in range(1, config.epochs + 1):
                loss = _epoch(model, optimizer, features, prepared, rows, generator)
                judged = _judged(_rank(model, features, told, valid_rows))
                curve.append(Epoch(epoch, loss, float(user_means(features, judged).mean())))
                counter.update()
                if curve[-1].valid_ndcg > best:
                    best, best_weights = curve[-1].valid_ndcg, copy.deepcopy(model.state_dict())
                elif epoch - _best(curve).epoch >= config.patience:
                    break
    model.load_state_dict(best_weights)
    return Trained(model.eval(), curve, _best(curve))


def _best(curve: list[Epoch]) -> Epoch:
    return max(curve, key=lambda point: point.valid_ndcg)


def positive_rows(features: Features, users: list[str], name: str) -> Tensor:
    """The lists of `users` that hold a positive. Raises RecError where there is none."""
    rows = features.rows(users)
    rows = rows[features.positive[rows]]
    if len(rows) == 0:
        raise RecError(f"no list of the {name} users holds a liked item; keep more users or lists")
    return rows


def _fresh(
    features: Features,
    knowledge: Knowledge | None,
    config: Ranker,
    backbone: str,
    train_users: list[str],
) -> Reranker:
    sizes = (len(features.catalogue), features.categories.shape[1])
    shape = Shape(*sizes)
    if knowledge is not None:
        shape = Shape(*sizes, knowledge.dimension, knowledge.texts)
    model = Reranker(shape, config, backbone).to(features.items.device)
    if knowledge is not None:
        adaptor = model.inputs.adaptor
        adaptor.calibrate(ITEMS, knowledge.items[1:])
        if knowledge.users is not None:
            own = knowledge.users[_responses_of(features, knowledge, train_users)]
            for text, vectors in enumerate(own.unbind(1)):
                adaptor.calibrate(USERS + text, vectors)
    return model


def _responses_of(features: Features, knowledge: Knowledge, users: list[str]) -> Tensor:
    assert knowledge.first is not None and knowledge.count is not None
    chosen = torch.zeros(len(features.users), dtype=torch.bool)
    chosen[[features.user_numbers[user] for user in users]] = True
    return chosen.to(knowledge.count.device).repeat_interleave(knowledge.count)


def _optimizer(model: Reranker, config: Ranker) -> torch.optim.Optimizer:
    """AdamW; biases and norms are not decayed."""
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.dim() > 1]},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def _epoch(
    model: Reranker,
    optimizer: torch.optim.Optimizer,
    features: Features,
    knowledge: Knowledge | None,
    rows: Tensor,
    generator: torch.Generator,
) -> float:
    """One pass over the lists `rows`; the mean loss. Raises RecError where it is not finite."""
    model.train()
    order = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
    drawn = _draw(features, knowledge, order, torch.rand(len(rows), generator=generator))
    total = torch.zeros((), device=rows.device)
    size = model.config.batch_size
    for start in range(0, len(order), size):
        part = slice(start, start + size)
        inputs = batch(features, knowledge, order[part], None if drawn is None else drawn[part])
        losses = model.loss(model(inputs), inputs.labels)
        optimizer.zero_grad()
        losses.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += losses.detach().sum()
    loss = float(total) / len(order)
    if not math.isfinite(loss):
        raise RecError(
            f"the re-ranker's loss is {loss}; lower ranker.learning_rate "
            f"({model.config.learning_rate}) or check the vectors"
        )
    return loss


def _draw(
    features: Features, knowledge: Knowledge | None, rows: Tensor, uniform: Tensor
) -> Tensor | None:
    """One response of each list's user, at random."""
    if knowledge is None or knowledge.users is None:
        return None
    assert knowledge.first is not None and knowledge.count is not None
    owner = features.list_user[rows]
    count = knowledge.count[owner]
    return knowledge.first[owner] + (uniform.to(rows.device) * count).long().clamp(max=count - 1)


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


def user_means(features: Features, judged: Judged) -> Floats:
    """NDCG@5 per user that has judged lists: the mean over the user's lists and responses."""
    owner = features.list_user.cpu().numpy()[judged.rows]
    count = np.bincount(owner)
    means: Floats = np.bincount(owner, weights=judged.ndcg)[count > 0] / count[count > 0]
    return means
