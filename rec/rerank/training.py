"""Training a re-ranker."""

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
from rec.rerank.captured import CapturedStep
from rec.rerank.features import Features, Knowledge, batch
from rec.rerank.inputs import ITEMS, USERS, Shape
from rec.rerank.ranking import judge_prepared, positive_rows, user_means
from rec.rerank.reranker import Reranker

Floats = npt.NDArray[np.float64]


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
        trainer = Trainer(features, knowledge, config, backbone, seed, train_users)
        model, curve = trainer.model, list[Epoch]()
        told = None if trainer.prepared is None else trainer.prepared.first_responses()
        best, best_weights = -math.inf, model.state_dict()
        with bar("train", config.epochs, "epoch") as counter:
            for epoch in range(1, config.epochs + 1):
                loss = trainer.epoch(rows)
                judged = judge_prepared(model, features, told, valid_rows)
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


class Trainer:
    """A fresh re-ranker and what a pass over lists needs; it seeds torch with `seed`.

    `train_users` are those whose texts the adaptor's means are taken from.
    """

    def __init__(
        self,
        features: Features,
        knowledge: Knowledge | None,
        config: Ranker,
        backbone: str,
        seed: int,
        train_users: list[str],
    ) -> None:
        torch.manual_seed(seed)
        self.model = _fresh(features, knowledge, config, backbone, train_users)
        self._features = features
        self.prepared = self.model.inputs.prepared(knowledge)
        self._optimizer = _optimizer(self.model, config)
        self._generator = torch.Generator().manual_seed(seed)
        on_gpu = features.items.device.type == "cuda"
        self._captured = CapturedStep(self._step) if on_gpu else None

    def epoch(self, rows: Tensor) -> float:
        """One pass over the lists `rows` in a random order; the mean loss.

        Raises RecError where it is not finite.
        """
        model, features = self.model.train(), self._features
        order = rows[torch.randperm(len(rows), generator=self._generator).to(rows.device)]
        uniform = torch.rand(len(rows), generator=self._generator)
        drawn = _draw(features, self.prepared, order, uniform)
        total = torch.zeros((), device=rows.device)
        size = model.config.batch_size
        for start in range(0, len(order), size):
            part = slice(start, start + size)
            whole = start + size <= len(order)
            step = self._captured if self._captured and whole else self._step
            total += step(order[part], None if drawn is None else drawn[part])
        loss = float(total) / len(order)
        if not math.isfinite(loss):
            raise RecError(
                f"the re-ranker's loss is {loss}; lower ranker.learning_rate "
                f"({model.config.learning_rate}) or check the vectors"
            )
        return loss

    def _step(self, lists: Tensor, responses: Tensor | None) -> Tensor:
        """Learn from lists [B], each with a response (or none); the sum of their losses."""
        inputs = batch(self._features, self.prepared, lists, responses)
        losses = self.model.loss(self.model(inputs), inputs.labels)
        self._optimizer.zero_grad()
        losses.mean().backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return losses.detach().sum()


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
        groups,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
        capturable=next(model.parameters()).is_cuda,
    )


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
