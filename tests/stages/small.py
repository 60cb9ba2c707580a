"""A small world's tables where the stages look for them, and the parameters to run with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from rec import layout
from rec.config import Data, Machine, Params, Reward
from rec.config import Knowledge as Texts
from rec.files import write_json
from rec.tables import INTERACTIONS, ITEMS, LISTS, PROMPTS, vectors_schema, write_table
from tests.rerank.builders import DIMENSION, World, ranker

SEED = 3
PROTOCOLS = ["popularity", "uniform"]


def reward(backbone: str, models: int = 1, text: str = "response") -> Reward:
    """Two folds."""
    return Reward(folds=2, text=text, models=models, backbone=backbone)


def params(text: str = "response", **changes: Any) -> Params:
    """Two policies, one round, few epochs, one process."""
    made = Params(
        seed=SEED,
        data=Data(rating_minimum=1.0, rating_maximum=5.0),
        knowledge=Texts(text=text),
        ranker=ranker(epochs=3),
        reward=reward("dlcm"),
        machine=Machine(threads=1),
        orders=["popularity", "random"],
        baselines=["none", "noise", "items", "swapped", "history"],
        policies=["0", "1"],
        rounds={"1": "0"},
        fine_tuned=[],
    )
    return replace(made, **changes)


def longer_lists(made: World) -> pl.DataFrame:
    """The lists of another protocol: one more negative, in another order."""
    rng = np.random.default_rng(5)
    names = made.items["item"].to_list()
    rows = made.lists.to_dicts()
    for row in rows:
        groups = [n for n, name in enumerate(names) if name not in row["items"]]
        other = [names[n] for n in groups if n % 4 != made.tastes[row["user"]]]
        cells = [*zip(row["items"], row["labels"], strict=True), (str(rng.choice(other)), 0)]
        order = rng.permutation(len(cells))
        row["items"] = [cells[place][0] for place in order]
        row["labels"] = [cells[place][1] for place in order]
    return pl.DataFrame(rows, schema=dict(LISTS))


def write_inputs(made: World, protocols: list[str] = PROTOCOLS) -> None:
    """What the stages of re-ranking and of the reward read, of both policies."""
    schema = vectors_schema(DIMENSION)
    write_table(made.items, layout.ITEMS, ITEMS)
    write_table(made.interactions, layout.INTERACTIONS, INTERACTIONS)
    write_table(made.lists, layout.LISTS, LISTS)
    for protocol in protocols[1:]:
        write_table(longer_lists(made), layout.protocol_lists(protocol), LISTS)
    write_json(layout.PREPARED, {"protocols": protocols})
    write_table(made.prompts, layout.PROMPTS, PROMPTS)
    write_table(made.item_vectors, layout.ITEM_VECTORS, schema)
    write_table(made.history_vectors, layout.HISTORY_VECTORS, schema)
    write_table(made.user_vectors, layout.vectors("0"), schema)
    write_table(made.user_vectors.filter(sample=1), layout.vectors("1"), schema)
    joint = made.user_vectors.with_columns(sample=pl.col("sample") + 10)
    write_table(joint, layout.joint_vectors("0"), schema)


def judged_lists(made: World) -> dict[str, list[int]]:
    """The lists that re-rankers are compared on: of validation and test users, with a positive."""
    judged = made.lists.filter(pl.col("split") != "train", pl.col("labels").list.max() > 0)
    return dict(judged.select("list", "labels").iter_rows())
