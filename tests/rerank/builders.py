"""Small synthetic worlds for the tests of re-ranking, reward and preferences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from rec.config import Ranker
from rec.knowledge import vectors_table
from rec.rerank.features import (
    Batch,
    Features,
    Knowledge,
    batch,
    build_features,
    item_knowledge,
    user_knowledge,
)
from rec.rerank.inputs import ITEMS as ITEM_TEXTS
from rec.rerank.inputs import USERS as USER_TEXTS
from rec.rerank.inputs import Shape
from rec.rerank.ranking import positive_rows
from rec.rerank.reranker import Reranker
from rec.rerank.training import Trained, train
from rec.tables import INTERACTIONS, ITEMS, LISTS, PROMPTS

torch.set_num_threads(1)  # in models this small, threads only wait for each other

GROUPS = 4
DIMENSION = 12

RANKER = Ranker(
    embedding=8,
    hidden=16,
    heads=2,
    layers=1,
    history=5,
    loss="listwise",
    adaptor="hea",
    adaptor_hidden=16,
    experts_shared=1,
    experts_specific=1,
    similarity=True,
    precision="fp32",
    knowledge=8,
    dropout=0.0,
    learning_rate=0.01,
    weight_decay=0.0,
    batch_size=64,
    epochs=12,
    patience=4,
)


def ranker(**changes: Any) -> Ranker:
    """The small re-ranker of the tests, with changes."""
    return replace(RANKER, **changes)


@dataclass(frozen=True)
class World:
    """Users who like the items of one group; see `world` for what tells which."""

    items: pl.DataFrame
    interactions: pl.DataFrame
    lists: pl.DataFrame
    prompts: pl.DataFrame
    item_vectors: pl.DataFrame
    user_vectors: pl.DataFrame
    history_vectors: pl.DataFrame  # one per user, which tell nothing
    tastes: dict[str, int]

    def features(self, history: int = RANKER.history) -> Features:
        return build_features(self.items, self.interactions, self.lists, history, (1.0, 5.0))

    def item_knowledge(self, features: Features) -> Knowledge:
        return item_knowledge(features, self.item_vectors)

    def knowledge(self, features: Features, vectors: pl.DataFrame | None = None) -> Knowledge:
        """Items' vectors, and the users' (or other vectors of theirs)."""
        table = self.user_vectors if vectors is None else vectors
        return user_knowledge(features, self.item_knowledge(features), table, self.prompts)

    def told(self, features: Features, kind: str) -> Knowledge | None:
        """Knowledge of one of KINDS."""
        items = self.item_knowledge(features)
        if kind in ("none", "items"):
            return items if kind == "items" else None
        histories = self.history_vectors if kind == "both" else None
        return user_knowledge(features, items, self.user_vectors, self.prompts, histories)


def world(
    users: int = 80,
    lists: int = 4,
    items: int = 24,
    size: int = 6,
    samples: int = 1,
    noise: float = 0.2,
    seed: int = 0,
    loyal: bool = False,
) -> World:
    """A list's liked items are those of the user's group.

    Histories and ratings are random; where users are `loyal`, their ratings tell the group. Sample
    0 of a user's vectors names the group; each further sample names it less clearly.
    """
    rng = np.random.default_rng(seed)
    names = [f"i{n:03d}" for n in range(items)]
    groups = np.arange(items) % GROUPS
    people = [f"u{n:03d}" for n in range(users)]
    tastes = {user: int(rng.integers(GROUPS)) for user in people}
    splits = {
        user: ("train", "train", "train", "valid", "test")[n % 5] for n, user in enumerate(people)
    }
    length = 4 + 2 * lists
    interactions = [
        {
            "user": user,
            "item": names[int(item)],
            "rating": 1.0 + 4 * (groups[item] == tastes[user]) if loyal else float(rating),
            "timestamp": position,
            "position": position,
            "part": "profile" if position < 4 else "list",
        }
        for user in people
        for position, (item, rating) in enumerate(
            zip(rng.choice(items, length), rng.integers(1, 6, length), strict=True)
        )
    ]
    rows = [
        {
            "list": f"{user}-{number}",
            "user": user,
            "split": splits[user],
            "position": 4 + 2 * number,
            "items": [names[item] for item in chosen],
            "labels": [int(groups[item] == tastes[user]) for item in chosen],
        }
        for user in people
        for number in range(lists)
        for chosen in [rng.choice(items, size, replace=False).tolist()]
    ]
    directions = np.eye(DIMENSION)[:GROUPS]
    keys = [(f"user:{user}", user, sample) for user in people for sample in range(samples)]
    clear = np.array([1.0 / (1 + sample) for _, _, sample in keys])
    told = directions[[tastes[user] for _, user, _ in keys]] * clear[:, None]
    return World(
        items=pl.DataFrame(
            {
                "item": names,
                "title": [f"Film {name}" for name in names],
                "year": [1990] * items,
                "categories": [["Drama"] if n % 2 else ["Comedy", "Drama"] for n in range(items)],
                "popularity": [items - n for n in range(items)],
                "rank": list(range(items)),
            },
            schema=dict(ITEMS),
        ),
        interactions=pl.DataFrame(interactions, schema=dict(INTERACTIONS)),
        lists=pl.DataFrame(rows, schema=dict(LISTS)),
        prompts=prompts_of(people, splits),
        item_vectors=vectors_table(names, [0] * items, _noisy(directions[groups], noise, rng)),
        user_vectors=vectors_table(
            [key for key, _, _ in keys], [s for _, _, s in keys], _noisy(told, noise, rng)
        ),
        history_vectors=vectors_table(
            [f"user:{user}" for user in people],
            [0] * users,
            _noisy(np.zeros((users, DIMENSION)), 1.0, rng),
        ),
        tastes=tastes,
    )


#: What a re-ranker is told: nothing, items' texts, and with them one or two texts of the user.
KINDS = ("none", "items", "users", "both")


def fresh(
    features: Features,
    knowledge: Knowledge | None,
    backbone: str,
    config: Ranker = RANKER,
    disturbed: float = 0.0,
) -> Reranker:
    """An untrained re-ranker for this knowledge, ready to rank.

    With `disturbed` no weight is what it begins with: nothing passes because a bias is 0.
    """
    torch.manual_seed(0)
    sizes = (len(features.catalogue), features.categories.shape[1])
    texts = (0, 0) if knowledge is None else (knowledge.dimension, knowledge.texts)
    model = Reranker(Shape(*sizes, *texts), config, backbone)
    if knowledge is not None:
        model.inputs.adaptor.calibrate(ITEM_TEXTS, knowledge.items[1:])
        for text in range(knowledge.texts):
            assert knowledge.users is not None
            model.inputs.adaptor.calibrate(USER_TEXTS + text, knowledge.users[:, text])
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=disturbed)
    return model.eval()


def lists_of(
    model: Reranker, features: Features, knowledge: Knowledge | None, rows: torch.Tensor
) -> Batch:
    """These lists as the model takes them, each with its user's first response."""
    prepared, responses = model.inputs.prepared(knowledge), None
    if prepared is not None and prepared.first is not None:
        responses = prepared.first[features.list_user[rows]]
    return batch(features, prepared, rows, responses)


def random_vectors(made: World, seed: int = 1) -> pl.DataFrame:
    """Vectors for the same users that tell nothing."""
    table = made.user_vectors
    shape = (table.height, DIMENSION)
    drawn = np.random.default_rng(seed).normal(size=shape).astype(np.float16)
    return vectors_table(table["key"].to_list(), table["sample"].to_list(), drawn)


def prompts_of(users: list[str], splits: dict[str, str]) -> pl.DataFrame:
    """A PROMPTS table of users."""
    return pl.DataFrame(
        {
            "key": [f"user:{user}" for user in users],
            "kind": ["user"] * len(users),
            "user": users,
            "split": [splits[user] for user in users],
            "messages": [
                [{"role": "user", "content": f"What does {user} like?"}] for user in users
            ],
            "history": [f"Films of {user}" for user in users],
        },
        schema=dict(PROMPTS),
    ).sort("key")


def _noisy(values: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    return (values + noise * rng.normal(size=values.shape)).astype(np.float16)


def fit(
    features: Features,
    knowledge: Knowledge | None,
    config: Ranker | None = None,
    seed: int = 1,
    backbone: str = "prm",
) -> Trained:
    """A re-ranker of the train users, for three epochs where no settings are given."""
    train_users, valid_users = features.users_of("train"), features.users_of("valid")
    return train(
        features, knowledge, config or ranker(epochs=3), backbone, seed, train_users, valid_users
    )


def rows_of_test(features: Features) -> torch.Tensor:
    """The lists of test users that hold a positive."""
    return positive_rows(features, features.users_of("test"), "test")


def dtypes_of(model: Reranker) -> set[torch.dtype]:
    """A set that fills with what the model's parts compute in from now on."""
    seen: set[torch.dtype] = set()

    def hook(module: nn.Module, given: Any, out: Any) -> None:
        seen.add((out[0] if isinstance(out, tuple) else out).dtype)

    for module in model.modules():
        module.register_forward_hook(hook)
    return seen
