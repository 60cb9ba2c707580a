"""What several stages share: the tables as tensors, a policy's knowledge, work side by side."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import polars as pl
import torch
from torch import Tensor

from rec import layout
from rec.config import Params
from rec.files import read_json
from rec.knowledge import read_vectors, told_vectors
from rec.machine import cores, device
from rec.rerank.features import (
    Features,
    Knowledge,
    build_features,
    item_knowledge,
    user_knowledge,
)
from rec.rerank.ranking import positive_rows
from rec.tables import INTERACTIONS, ITEMS, LISTS, PROMPTS, read_protocols, read_table

T = TypeVar("T")


FEW_LISTS = 3_000  # that a re-ranker has trained on before another process has started


def side_by_side(
    params: Params,
    function: Callable[..., T],
    calls: list[tuple[Any, ...]],
    lists: int | None = None,
) -> list[T]:
    """Results of independent calls, one process of one thread per call on a CPU.

    A re-ranker is so small that threads inside it mostly wait for each other: on a busy machine
    two were ten times slower than one. Calls that train on few `lists` are made one after the
    other, without processes. `function` must be a module's own, for a process to find.
    """
    few = lists is not None and lists <= FEW_LISTS
    workers = 1 if few else min(len(calls), params.machine.threads or cores())
    if workers == 1 or device() == "cuda":
        torch.set_num_threads(1)
        return [function(*call) for call in calls]
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        return list(pool.map(function, *zip(*calls, strict=True)))


def protocols() -> list[str]:
    """The protocols of the prepared lists, the main one first."""
    return read_protocols(read_json(layout.PREPARED))


def features(params: Params, protocol: str | None = None) -> Features:
    """Lists and histories of all users; the lists of the main protocol where none is named."""
    main = protocol in (None, protocols()[0])
    return build_features(
        read_table(layout.ITEMS, ITEMS),
        read_table(layout.INTERACTIONS, INTERACTIONS),
        read_table(layout.LISTS if main else layout.protocol_lists(str(protocol)), LISTS),
        params.ranker.history,
        (params.data.rating_minimum, params.data.rating_maximum),
    )


def lists() -> int:
    """How many lists there are, of each protocol."""
    return read_table(layout.LISTS, LISTS).height


def judged_rows(built: Features) -> Tensor:
    """The lists of validation and test users that hold a positive."""
    users = built.users_of("valid") + built.users_of("test")
    return positive_rows(built, users, "validation and test")


def policy_knowledge(built: Features, policy: str, text: str) -> Knowledge:
    """The items' vectors and those of a policy's responses, told as `text` says.

    That is `knowledge.text` for the re-rankers that are compared, `reward.text` for reward models.
    """
    items = item_knowledge(built, read_vectors(layout.ITEM_VECTORS))
    histories = None
    if text == "both":
        histories = read_vectors(layout.HISTORY_VECTORS)
    told = read_vectors(told_vectors(policy, text))
    return user_knowledge(built, items, told, prompts(), histories)


def prompts() -> pl.DataFrame:
    """The prompts about users."""
    return read_table(layout.PROMPTS, PROMPTS).filter(pl.col("kind") == "user")
