"""Small tables as the stage prepare leaves them, and what `rec.statistics` says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl

from rec.statistics import describe
from rec.tables import INTERACTIONS, ITEMS, LISTS, USERS, Schema, TablePaths, write_table

#: Without faults.
CLEAN: Mapping[str, Any] = {
    "ratings": 100,
    "protocols": ["popularity"],
    "tied": 2,
    "dropped": {"ratings": {}, "items": {}, "users": {}, "lists": {}},
}
#: With faults of all relations.
FAULTY: Mapping[str, Any] = {
    "ratings": 31_415,
    "protocols": ["popularity", "uniform"],
    "tied": 2,
    "dropped": {
        "ratings": {"exact duplicate": 271, "rating out of range": 82},
        "items": {"never rated": 7},
        "users": {"too few interactions": 6, "not among prepare.users": 0, "without a list": 1},
        "lists": {"short last block": 5, "without a positive": 3, "some new reason": 2},
    },
}


class Made(NamedTuple):
    """The tables."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    lists: pl.DataFrame


def frame(rows: Sequence[Sequence[Any]], schema: Schema) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=dict(schema), orient="row")


@cache
def small() -> Made:
    """Users u1 to u4 with 3, 2, 2 and 1 interactions with 4 items, one of which has none.

    By popularity the items are a, b, c, d; the lists of u1 stand in another order.
    """
    seen = {"u1": "abc", "u2": "ab", "u3": "ac", "u4": "b"}
    ratings = {"a": 5.0, "b": 3.5, "c": 1.0}
    return Made(
        interactions=frame(
            [
                (user, item, ratings[item], 86_400 * (10 * int(user[1]) + place), place, "profile")
                for user, items in seen.items()
                for place, item in enumerate(items)
            ],
            INTERACTIONS,
        ),
        items=frame(
            [
                ("a", "Alien", 1979, ["Horror"], 3, 0),
                ("b", "Brazil", 1985, [], 2, 1),
                ("c", "Clerks", None, ["Comedy"], 1, 2),
                ("d", "Dune", 1984, ["Drama"], 0, 3),
            ],
            ITEMS,
        ),
        users=frame(
            [
                ("u1", "train", 2, 2),
                ("u2", "train", 1, 1),
                ("u3", "valid", 1, 1),
                ("u4", "test", 1, 1),
            ],
            USERS,
        ),
        lists=frame(
            [
                ("u1-0", "u1", "train", 2, ["d", "b", "a"], [1, 0, 0]),
                ("u1-1", "u1", "train", 3, ["c", "a"], [0, 1]),
                ("u2-0", "u2", "train", 1, ["a", "b", "c", "d"], [0, 1, 1, 0]),
                ("u3-0", "u3", "valid", 1, ["a", "b"], [0, 0]),
                ("u4-0", "u4", "test", 1, ["a", "b", "c"], [1, 0, 0]),
            ],
            LISTS,
        ),
    )


@cache
def uniform_lists() -> pl.DataFrame:
    """Lists of a further protocol: that of the test user has its positive behind two others."""
    other = {"items": ["d", "a", "b"], "labels": [1, 0, 0]}
    rows = [row | (other if row["split"] == "test" else {}) for row in small().lists.to_dicts()]
    return pl.DataFrame(rows, schema=dict(LISTS))


def write_tables(made: Made, folder: Path, **further: pl.DataFrame) -> TablePaths:
    """Write the tables where a stage would, `further` the lists of each further protocol."""
    lists = {protocol: folder / f"lists-{protocol}.parquet" for protocol in further}
    tables = TablePaths(*(folder / f"{name}.parquet" for name in Made._fields), further=lists)
    for protocol, path in lists.items():
        write_table(further[protocol], path, LISTS)
    schemas = {"interactions": INTERACTIONS, "items": ITEMS, "users": USERS, "lists": LISTS}
    for name, schema in schemas.items():
        write_table(getattr(made, name), getattr(tables, name), schema)
    return tables


def described(
    made: Made, prepared: Mapping[str, Any] = CLEAN, **further: pl.DataFrame
) -> dict[str, Any]:
    """What `rec.statistics.describe` says of the tables."""
    with TemporaryDirectory() as folder:
        tables = write_tables(made, Path(folder) / "tables", **further)
        return describe(tables, prepared, Path(folder) / "work", "500MB", 2)


@cache
def _statistics() -> dict[str, Any]:
    return described(small(), FAULTY, uniform=uniform_lists())


def statistics() -> dict[str, Any]:
    """The content of stats.json of `small` with faults and `uniform_lists`."""
    return dict(_statistics())
