"""The tables that stages hand to each other: their schemas, and reading and writing them.

A table is Parquet, written under a temporary name and then renamed, so that a file under its final
name is always whole. Reading checks the schema, so that a stage meets a wrong table at its door.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from polars.datatypes import DataType, DataTypeClass

from rec.errors import RecError
from rec.files import atomic_path

Schema = Mapping[str, DataType | DataTypeClass]

PLAIN = pl.CompatLevel.oldest()  # of Arrow types: those that Parquet has

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))

#: Sorted by item: those with interactions.
ITEMS: Schema = {
    "item": pl.String,
    "title": pl.String,
    "year": pl.Int32,  # null where unknown
    "categories": pl.List(pl.String),  # genres, departments; possibly empty
    "popularity": pl.Int64,  # interactions of train users
    "rank": pl.Int64,  # 0-based place by popularity, items of one popularity by a hash
}
#: Sorted by user, position.
INTERACTIONS: Schema = {
    "user": pl.String,
    "item": pl.String,
    "rating": pl.Float32,
    "timestamp": pl.Int64,  # seconds since the epoch
    "position": pl.Int32,  # 0-based place in the user's time order
    "part": pl.String,  # "profile" or "list"
}
#: Sorted by user.
USERS: Schema = {
    "user": pl.String,
    "split": pl.String,  # "train", "valid" or "test"
    "profile_interactions": pl.Int32,
    "lists": pl.Int32,
}
#: Sorted by user, position. Items stand in the order of the initial ranker: by popularity, or as
#: they were shown.
LISTS: Schema = {
    "list": pl.String,
    "user": pl.String,
    "split": pl.String,
    "position": pl.Int32,  # of the list's first own interaction: the history lies before it
    "items": pl.List(pl.String),
    "labels": pl.List(pl.Int8),
}
#: Sorted by relation, reason, file, row: the first rows of each kind that were left out.
REJECTS: Schema = {
    "relation": pl.String,  # "ratings", "items" or "impressions"
    "reason": pl.String,
    "file": pl.String,
    "row": pl.Int64,  # 1-based
    "value": pl.String,  # how it read, cut
}
#: Sorted by key.
PROMPTS: Schema = {
    "key": pl.String,
    "kind": pl.String,  # "user"
    "user": pl.String,
    "split": pl.String,
    "messages": MESSAGES,
    "history": pl.String,  # the history of the prompt as plain text
}
#: Sorted by key, sample.
RESPONSES: Schema = {
    "key": pl.String,
    "sample": pl.Int32,
    "text": pl.String,
    "token_ids": pl.List(pl.Int32),
    "prompt_tokens": pl.Int32,
    "response_tokens": pl.Int32,
    "finish_reason": pl.String,  # "length" where every slot of the form met its limit, else "stop"
    "cut_slots": pl.Int32,  # slots of the form that met their limit
    "empty_slots": pl.Int32,  # slots that stayed empty at a server and hold a stand-in
    "looping": pl.Boolean,  # repeats itself (rec.health.loops)
    "seed": pl.Int64,
}
#: SCORES.fold of a validation user: the score is the mean over the models of all folds.
ALL_FOLDS = -1
#: Train and validation users. Sorted by user, sample.
SCORES: Schema = {
    "user": pl.String,
    "sample": pl.Int32,
    "fold": pl.Int32,  # the reward model that scored: the one that never saw this user
    "ndcg@5": pl.Float64,
    "map@5": pl.Float64,
    "log_likelihood": pl.Float64,
    "lists": pl.Int32,
}
#: Sorted by user, a user's best pair first.
PAIRS: Schema = {
    "key": pl.String,
    "user": pl.String,
    "messages": MESSAGES,
    "chosen": pl.String,
    "rejected": pl.String,
    "chosen_ids": pl.List(pl.Int32),
    "rejected_ids": pl.List(pl.Int32),
    "chosen_sample": pl.Int32,
    "rejected_sample": pl.Int32,
    "chosen_score": pl.Float64,
    "rejected_score": pl.Float64,
    "margin": pl.Float64,
}
#: RUNS.sample where no response was told, RUNS.backbone and RUNS.seed of an order of the lists.
NO_SAMPLE = -1
NO_BACKBONE = ""
NO_SEED = 0
#: One re-ranker (or the orders): the lists of validation and test users, ranked with each of their
#: user's responses. Sorted by variant, protocol, list, sample. All metrics follow from `labels`;
#: `places` tells a reader which items they are of.
RUNS: Schema = {
    "variant": pl.String,
    "backbone": pl.String,
    "protocol": pl.String,  # how the negatives were drawn, or "shown"
    "seed": pl.Int64,
    "split": pl.String,  # "valid" or "test"
    "user": pl.String,
    "list": pl.String,
    "sample": pl.Int32,
    "labels": pl.List(pl.Int8),  # of the whole list, in the order that the variant gives it
    "places": pl.List(pl.Int16),  # in that order: the 0-based place of each in LISTS.items
}
#: Metrics of the comparison, as `rec.rerank.metrics` defines them, and their k.
USER_MEASURES = ("ndcg", "map", "map_kar", "hit_rate", "click")
USER_SCOPES = (1, 3, 5, 7, 10)
#: What each re-ranker reaches on each user's lists: the mean over the lists of the mean over the
#: responses that were told. Sorted by protocol, backbone, variant, seed, split, user.
USER_METRICS: Schema = {
    "protocol": pl.String,
    "backbone": pl.String,
    "variant": pl.String,  # as in RUNS; "best": the response of the base LLM that proved best
    "seed": pl.Int64,
    "split": pl.String,
    "user": pl.String,
    "lists": pl.Int32,
    **{f"{measure}@{k}": pl.Float64 for measure in USER_MEASURES for k in USER_SCOPES},
}


@dataclass(frozen=True)
class TablePaths:
    """Where the tables of prepared data lie."""

    interactions: Path
    items: Path
    users: Path
    lists: Path  # of the main protocol
    #: Lists of each other protocol.
    further: Mapping[str, Path] = field(default_factory=dict, kw_only=True)

    def of_protocols(self, protocols: Sequence[str]) -> dict[str, Path]:
        """Where the lists of each protocol lie, the main one first."""
        return {protocols[0]: self.lists, **{name: self.further[name] for name in protocols[1:]}}


def read_protocols(prepared: Mapping[str, Any]) -> list[str]:
    """The protocols of the prepared lists, the main one first, by the counts in prepare.json.

    Raises RecError where the counts do not name them.
    """
    found = prepared.get("protocols") if isinstance(prepared, Mapping) else None
    if not isinstance(found, list) or not found or not all(isinstance(p, str) for p in found):
        raise RecError(f"prepare.json: protocols: {found!r}; it must be a list of one name or more")
    return found


def vectors_schema(dimension: int) -> Schema:
    """Schema of a table of text vectors: key, sample, float16[dimension]. Sorted by key, sample."""
    return {
        "key": pl.String,
        "sample": pl.Int32,
        "vector": pl.Array(pl.Float16, dimension),
    }


def check_schema(table: pl.DataFrame, schema: Schema, name: str) -> pl.DataFrame:
    """Return `table` if its columns and types are `schema`, in any order; else raise RecError."""
    for column, dtype in schema.items():
        if column not in table.columns:
            raise RecError(f"{name}: column {column!r} is missing; it must hold {dtype}")
        if table.schema[column] != dtype:
            raise RecError(
                f"{name}: column {column!r} holds {table.schema[column]}; it must hold {dtype}"
            )
    extra = sorted(set(table.columns) - set(schema))
    if extra:
        raise RecError(f"{name}: column {extra[0]!r} is not one of {', '.join(schema)}")
    return table.select(list(schema))


def read_table(path: Path, schema: Schema) -> pl.DataFrame:
    """Read a Parquet table and check its schema.

    Raises RecError where the file is missing, is not Parquet, or has another schema.
    """
    if not path.is_file():
        raise RecError(f"{path}: no such file; run the stage that writes it (`dvc repro`)")
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RecError(f"{path}: not a readable Parquet file ({reason})") from error
    return check_schema(table, schema, str(path))


def write_table(table: pl.DataFrame, path: Path, schema: Schema) -> None:
    """Check the schema and write the table as Parquet under its final name in one step."""
    checked = check_schema(table, schema, str(path))
    with atomic_path(path) as temporary:
        checked.write_parquet(temporary, compression="zstd", statistics=False)


@contextmanager
def table_writer(path: Path, schema: Schema) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Write a Parquet table in parts: yields what appends a part, as a row group of its own."""
    from pyarrow.parquet import ParquetWriter

    kind = pl.DataFrame(schema=dict(schema)).to_arrow(compat_level=PLAIN).schema
    options = {"compression": "zstd", "store_schema": False, "write_statistics": False}
    with atomic_path(path) as temporary, ParquetWriter(temporary, kind, **options) as writer:

        def append(part: pl.DataFrame) -> None:
            if len(part):
                checked = check_schema(part, schema, str(path))
                writer.write_table(checked.to_arrow(compat_level=PLAIN), row_group_size=len(part))

        yield append
