"""Stage encode POLICY: the vectors of a policy's responses, and whether they tell users apart."""

import dataclasses
from pathlib import Path
from typing import Any

import click
import polars as pl

from rec import layout
from rec.config import Params, require_policy
from rec.errors import RecError
from rec.files import atomic_path, write_json
from rec.identifiability import Integers, identifiability, response_cosines
from rec.knowledge import (
    Encoder,
    Vectors,
    joint_texts,
    matrix,
    read_vectors,
    vectors_table,
)
from rec.machine import use_threads
from rec.tables import PROMPTS, RESPONSES, read_table, vectors_schema, write_table
from stages.runner import stage


@stage
@click.argument("policy")
def main(params: Params, policy: str) -> None:
    """Encode the responses of a POLICY, one of `policies` in params.yaml."""
    require_policy(params, policy)
    use_threads(params.machine.threads)
    responses = read_table(layout.responses(policy), RESPONSES).sort("key", "sample")
    histories = read_vectors(layout.HISTORY_VECTORS)
    owners = owners_of(responses, histories, policy)
    encoder = Encoder(layout.RAW_ENCODER, params.encoder.max_tokens, params.encoder.batch_size)
    texts = texts_of(responses, policy, {params.knowledge.text, params.reward.text})
    tables = {path: encoded(encoder, responses, column) for path, column in texts.items()}
    figures = told_apart(matrix(tables[layout.vectors(policy)]), owners, matrix(histories))
    with atomic_path(layout.knowledge(policy)) as folder:
        folder.mkdir()
        for path, table in tables.items():
            write_table(table, folder / path.name, vectors_schema(encoder.dimension))
        cut = {"cut": max(encoder.cut(written.to_list()) for written in texts.values())}
        write_json(folder / layout.identifiability(policy).name, {**figures, **cut})


def owners_of(responses: pl.DataFrame, histories: pl.DataFrame, policy: str) -> Integers:
    """The row of each response's user in `histories`. Raises RecError where there is none."""
    rows = histories.select("key").with_row_index("row")
    owners = responses.select("key").join(rows, on="key", how="left", maintain_order="left")["row"]
    if owners.null_count():
        raise RecError(f"{layout.responses(policy)}: a response has no prompt; sample again")
    return owners.cast(pl.Int64).to_numpy()


def texts_of(responses: pl.DataFrame, policy: str, told: set[str]) -> dict[Path, pl.Series]:
    """The texts to encode, by where their vectors go: responses, and joint with their histories.

    `told` holds what re-rankers read of them and what reward models do.
    """
    texts = {layout.vectors(policy): responses["text"]}
    if "joint" in told:
        prompts = read_table(layout.PROMPTS, PROMPTS)
        texts[layout.joint_vectors(policy)] = joint_texts(responses, prompts)
    return texts


def told_apart(vectors: Vectors, owners: Integers, histories: Vectors) -> dict[str, Any]:
    """How well responses tell users apart."""
    within, between = response_cosines(vectors, owners)
    return {
        **dataclasses.asdict(identifiability(vectors, owners, histories)),
        "within_user_cosine": within,
        "between_user_cosine": between,
    }


def encoded(encoder: Encoder, responses: pl.DataFrame, texts: pl.Series) -> pl.DataFrame:
    """The vectors of texts, one per response."""
    keys, samples = responses["key"].to_list(), responses["sample"].to_list()
    return vectors_table(keys, samples, encoder.encode(texts.to_list()))


if __name__ == "__main__":
    main()
