"""Stage encode POLICY: the vectors of a policy's responses, and whether they tell users apart."""

import dataclasses

import click
import polars as pl

from rec import layout
from rec.config import Params, require_policy
from rec.errors import RecError
from rec.files import atomic_path, write_json
from rec.identifiability import identifiability, response_cosines
from rec.knowledge import Encoder, joint_texts, matrix, read_vectors, vectors_table
from rec.machine import use_threads
from rec.tables import PROMPTS, RESPONSES, read_table, vectors_schema, write_table
from stages.runner import stage


@stage
@click.argument("policy")
def main(params: Params, policy: str) -> None:
    """Encode the responses of a POLICY, one of `policies` in params.yaml."""
    require_policy(params, policy)
    use_threads(params.machine.threads)
    responses = read_table(layout.responses(policy), RESPONSES)
    encoder = Encoder(layout.RAW_ENCODER, params.encoder.max_tokens, params.encoder.batch_size)
    vectors = encoded(encoder, responses, responses["text"])
    histories = read_vectors(layout.HISTORY_VECTORS)
    rows = histories.select("key").with_row_index("row")
    owners = vectors.select("key").join(rows, on="key", how="left", maintain_order="left")["row"]
    if owners.null_count():
        raise RecError(f"{layout.responses(policy)}: a response has no prompt; sample again")
    found = identifiability(matrix(vectors), owners.cast(pl.Int64).to_numpy(), matrix(histories))
    within, between = response_cosines(matrix(vectors), owners.cast(pl.Int64).to_numpy())
    cosines = {"within_user_cosine": within, "between_user_cosine": between}
    schema = vectors_schema(encoder.dimension)
    texts = responses["text"]
    if params.knowledge.text == "joint":
        texts = joint_texts(responses, read_table(layout.PROMPTS, PROMPTS))
    figures = {**dataclasses.asdict(found), **cosines, "cut": encoder.cut(texts.to_list())}
    with atomic_path(layout.knowledge(policy)) as folder:
        folder.mkdir()
        write_table(vectors, folder / layout.vectors(policy).name, schema)
        if params.knowledge.text == "joint":
            told = encoded(encoder, responses, texts)
            write_table(told, folder / layout.joint_vectors(policy).name, schema)
        write_json(folder / layout.identifiability(policy).name, figures)


def encoded(encoder: Encoder, responses: pl.DataFrame, texts: pl.Series) -> pl.DataFrame:
    """The vectors of texts, one per response."""
    keys, samples = responses["key"].to_list(), responses["sample"].to_list()
    return vectors_table(keys, samples, encoder.encode(texts.to_list()))


if __name__ == "__main__":
    main()
