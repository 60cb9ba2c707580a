"""What several stages share: the tables as tensors, a variant's knowledge, work side by side."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import polars as pl
import torch

from rec.config import Params
from rec.knowledge import read_vectors
from rec.machine import cores, device
from rec.rerank.features import (
    Features,
    Knowledge,
    build_features,
    item_knowledge,
    user_knowledge,
)
from rec.rerank.variants import HISTORY, NONE, ORDERS, policy_of
from rec.tables import INTERACTIONS, ITEMS, LISTS, PROMPTS, read_table
from stages import layout

T = TypeVar("T")


def side_by_side(
    params: Params, function: Callable[..., T], calls: list[tuple[Any, ...]]
) -> list[T]:
    """Results of independent calls, one process of one thread per call on a CPU.

    A re-ranker is so small that threads inside it mostly wait for each other: on a busy machine
    two were ten times slower than one. `function` must be a module's own, for a process to find.
    """
    workers = min(len(calls), params.machine.threads or cores())
    if workers == 1 or device() == "cuda":
        torch.set_num_threads(1)
        return [function(*call) for call in calls]
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        return list(pool.map(function, *zip(*calls, strict=True)))


def features(params: Params) -> Features:
    """Lists and histories of all users."""
    return build_features(
        read_table(layout.ITEMS, ITEMS),
        read_table(layout.INTERACTIONS, INTERACTIONS),
        read_table(layout.LISTS, LISTS),
        params.ranker.history,
        (params.data.rating_minimum, params.data.rating_maximum),
    )


def knowledge(built: Features, variant: str, policies: list[str]) -> Knowledge | None:
    """The text vectors that a variant gives to the re-ranker; None for no text."""
    policy = policy_of(variant, policies)
    if variant == NONE or variant in ORDERS:
        return None
    items = item_knowledge(built, read_vectors(layout.ITEM_VECTORS))
    if policy is not None:
        return user_knowledge(built, items, read_vectors(layout.vectors(policy)), prompts())
    if variant == HISTORY:
        return user_knowledge(built, items, read_vectors(layout.HISTORY_VECTORS), prompts())
    return items


def policy_knowledge(built: Features, policy: str, policies: list[str]) -> Knowledge:
    """The items' vectors and those of a policy's responses."""
    known = knowledge(built, policy, policies)
    assert known is not None
    return known


def prompts() -> pl.DataFrame:
    """The prompts about users."""
    return read_table(layout.PROMPTS, PROMPTS).filter(pl.col("kind") == "user")
