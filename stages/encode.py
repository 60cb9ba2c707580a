"""Stage encode POLICY: the vectors of a policy's responses, and whether they tell users apart."""

import dataclasses

import click
import polars as pl

from rec.config import Params, require_policy
from rec.errors import RecError
from rec.files import write_json
from rec.identifiability import identifiability, response_cosines
from rec.knowledge import Encoder, matrix, read_vectors, vectors_table
from rec.machine import use_threads
from rec.tables import RESPONSES, read_table, vectors_schema, write_table
from stages import layout
from stages.runner import stage


@stage
@click.argument("policy")
def main(params: Params, policy: str) -> None:
    """Encode the responses of a POLICY, one of `policies` in params.yaml."""
    require_policy(params, policy)
    use_threads(params.machine.threads)
    responses = read_table(layout.responses(policy), RESPONSES)
    encoder = Encoder(layout.RAW_ENCODER, params.encoder.max_tokens, params.encoder.batch_size)
    vectors = vectors_table(
        responses["key"].to_list(),
        responses["sample"].to_list(),
        encoder.encode(responses["text"].to_list()),
    )
    histories = read_vectors(layout.HISTORY_VECTORS)
    rows = histories.select("key").with_row_index("row")
    owners = vectors.select("key").join(rows, on="key", how="left", maintain_order="left")["row"]
    if owners.null_count():
        raise RecError(f"{layout.responses(policy)}: a response has no prompt; sample again")
    found = identifiability(matrix(vectors), owners.cast(pl.Int64).to_numpy(), matrix(histories))
    within, between = response_cosines(matrix(vectors), owners.cast(pl.Int64).to_numpy())
    write_table(vectors, layout.vectors(policy), vectors_schema(encoder.dimension))
    cosines = {"within_user_cosine": within, "between_user_cosine": between}
    write_json(layout.identifiability(policy), {**dataclasses.asdict(found), **cosines})


if __name__ == "__main__":
    main()
