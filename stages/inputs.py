"""What several stages read: the tables as tensors, and the knowledge of a variant."""

import polars as pl
import torch

from rec.config import Params
from rec.errors import RecError
from rec.knowledge import read_vectors
from rec.machine import cores
from rec.rerank.features import (
    Features,
    Knowledge,
    build_features,
    item_knowledge,
    user_knowledge,
)
from rec.rerank.variants import HISTORY, NONE, POPULARITY, policy_of
from rec.tables import INTERACTIONS, ITEMS, LISTS, PROMPTS, read_table
from stages import layout


def use_threads(params: Params) -> None:
    """Let torch use the cores that `machine.threads` allows."""
    torch.set_num_threads(params.machine.threads or cores())


def features(params: Params) -> Features:
    """Lists and histories of all users."""
    return build_features(
        read_table(layout.ITEMS, ITEMS),
        read_table(layout.INTERACTIONS, INTERACTIONS),
        read_table(layout.LISTS, LISTS),
        params.ranker.history,
        (params.data.rating_minimum, params.data.rating_maximum),
    )


def knowledge(built: Features, variant: str, policies: list[int]) -> Knowledge | None:
    """The text vectors that a variant gives to the re-ranker; None for no text."""
    policy = policy_of(variant, policies)
    if variant in (NONE, POPULARITY):
        return None
    items = item_knowledge(built, read_vectors(layout.ITEM_VECTORS))
    if policy is not None:
        return user_knowledge(built, items, read_vectors(layout.vectors(policy)), prompts())
    if variant == HISTORY:
        return user_knowledge(built, items, read_vectors(layout.HISTORY_VECTORS), prompts())
    return items


def prompts() -> pl.DataFrame:
    """The prompts about users."""
    return read_table(layout.PROMPTS, PROMPTS).filter(pl.col("kind") == "user")


def judged_policy(params: Params, round_: int) -> int:
    """The policy whose responses a round judges. Raises RecError for a round that is not there."""
    if str(round_) not in params.rounds:
        rounds = ", ".join(params.rounds)
        raise RecError(f"round {round_} does not exist; params.yaml has rounds {rounds}")
    return params.rounds[str(round_)]
