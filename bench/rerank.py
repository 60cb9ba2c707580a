"""How many lists per second the re-rankers train on and rank.

    python -m bench.rerank [--quick]

Prints {ARCH: {"train_lists_per_s", "train_lists_per_s_knowledge", "eval_lists_per_s"}}. The lists
are made up, of the sizes of MovieLens-100k and of KAR's models: 10 items, 10 interactions of
history, embeddings of 32, hidden states of 64, text vectors of 384, adaptor of 2 shared and 6
dedicated experts (128 and 32 units), batches of 512. On a CPU every core trains a model of its own
in one thread, as the stages do with seeds, folds and protocols; the figure is their sum.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier

import click
import numpy as np
import torch

from bench.measure import print_figures
from rec.config import BACKBONES, Ranker
from rec.machine import cores, device
from rec.rerank.features import Features, Knowledge
from rec.rerank.ranking import rank
from rec.rerank.training import Trainer

USERS, ITEMS, CATEGORIES, SIZE, HISTORY = 848, 1682, 19, 10, 10
RESPONSES, DIMENSION = 4, 384
SETTINGS = Ranker(
    embedding=32,
    hidden=64,
    heads=2,
    layers=1,
    history=HISTORY,
    loss="listwise",
    adaptor="hea",
    adaptor_hidden=128,
    experts_shared=2,
    experts_specific=6,
    similarity=True,
    precision="auto",
    knowledge=32,
    dropout=0.0,
    learning_rate=1e-3,
    weight_decay=0.0,
    batch_size=512,
    epochs=1,
    patience=1,
)
MEASURES = ("train_lists_per_s", "train_lists_per_s_knowledge", "eval_lists_per_s")


def made_features(lists: int, seed: int) -> Features:
    """Lists of items drawn by popularity, histories and labels at random."""
    rng = np.random.default_rng(seed)
    weights = np.arange(1, ITEMS + 1) ** -0.7
    keys = rng.random((lists, ITEMS)) ** (1 / weights)
    items = np.argpartition(-keys, SIZE, axis=1)[:, :SIZE] + 1
    labels = (rng.random((lists, SIZE)) < 0.2).astype(np.float32)
    labels[:, 0] = 1
    place = device()
    return Features(
        lists=[str(number) for number in range(lists)],
        users=[str(number) for number in range(USERS)],
        splits=["train"] * USERS,
        list_user=torch.from_numpy(rng.integers(0, USERS, lists)).to(place),
        items=torch.from_numpy(items).to(place),
        labels=torch.from_numpy(labels).to(place),
        history=torch.from_numpy(rng.integers(1, ITEMS + 1, (lists, HISTORY))).to(place),
        ratings=torch.from_numpy(rng.uniform(-1, 1, (lists, HISTORY)).astype(np.float32)).to(place),
        catalogue=[str(number) for number in range(ITEMS)],
        categories=(torch.rand(ITEMS + 1, CATEGORIES) < 0.1).float().to(place),
        rank=torch.arange(-1, ITEMS).to(place),
    )


def made_knowledge() -> Knowledge:
    """Random text vectors of the items, and of several responses per user."""
    place = device()
    return Knowledge(
        items=torch.randn(ITEMS + 1, DIMENSION).half().to(place),
        users=torch.randn(USERS * RESPONSES, 1, DIMENSION).half().to(place),
        first=(torch.arange(USERS) * RESPONSES).to(place),
        count=torch.full((USERS,), RESPONSES).to(place),
        samples=torch.arange(RESPONSES).repeat(USERS).to(place),
    )


def rate(work: Callable[[], object], lists: int, seconds: float, together: Barrier) -> float:
    """Lists per second of `work`, which does `lists` of them, repeated for some seconds."""
    work()
    together.wait()
    started, passes = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        work()
        passes += 1
    return passes * lists / (time.perf_counter() - started)


def measure(number: int, lists: int, seconds: float, together: Barrier) -> list[float]:
    """The rates of one process: every measure of every backbone, in order."""
    torch.set_num_threads(1)
    torch.manual_seed(number)
    features, knowledge = made_features(lists, number), made_knowledge()
    rows, found = torch.arange(lists, device=device()), []
    for backbone in BACKBONES:
        for told in (None, knowledge):
            trainer = Trainer(features, told, SETTINGS, backbone, number, features.users)
            found.append(rate(lambda: trainer.epoch(rows), lists, seconds, together))  # noqa: B023
        told = knowledge.first_responses()
        found.append(
            rate(
                lambda: rank(trainer.model, features, told, rows),  # noqa: B023
                lists,
                seconds,
                together,
            )
        )
    return found


@click.command()
@click.option("--quick", is_flag=True, help="Finish within a minute.")
def main(quick: bool) -> None:
    """Print lists per second by backbone."""
    workers = 1 if device() == "cuda" else cores()
    steady = 4.0 if device() == "cuda" else 12.0  # cores that share a memory vary more
    lists, seconds = (2_048, 1.0) if quick else (18_039, steady)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        together = manager.Barrier(workers)
        calls = [(number, lists, seconds, together) for number in range(workers)]
        with context.Pool(workers) as pool:
            rates = np.sum(pool.starmap(measure, calls), axis=0).reshape(len(BACKBONES), -1)
    print_figures(
        {
            backbone: dict(zip(MEASURES, row.round(0).tolist(), strict=True))
            for backbone, row in zip(BACKBONES, rates, strict=True)
        }
    )


if __name__ == "__main__":
    main()
