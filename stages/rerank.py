"""Stage rerank VARIANT BACKBONE SEED: a fresh re-ranker per protocol, on the test users' lists.

VARIANT is one of `baselines` in params.yaml or a policy. What it makes of validation users' lists
is kept too. Lists without a liked item cannot tell re-rankers apart and are left out.
"""

from typing import Any

import click
import polars as pl

from rec import layout
from rec.config import BACKBONES, Params
from rec.files import write_json
from rec.knowledge import read_vectors
from rec.rerank.features import (
    Features,
    Knowledge,
    item_knowledge,
    of_other_users,
    random_knowledge,
    user_knowledge,
)
from rec.rerank.ranking import rank
from rec.rerank.reranker import save
from rec.rerank.training import train
from rec.rerank.variants import HISTORY, NOISE, NONE, SWAPPED, is_policy, runs_table
from rec.seeds import derive_seed
from rec.tables import RUNS, write_table
from stages import inputs
from stages.runner import stage


@stage
@click.argument("variant")
@click.argument("backbone", type=click.Choice(BACKBONES))
@click.argument("seed", type=click.IntRange(min=0))
def main(params: Params, variant: str, backbone: str, seed: int) -> None:
    """Train a re-ranker per protocol and rank the lists of validation and test users."""
    is_policy(variant, params.policies)
    names = inputs.protocols()
    calls = [(params, variant, backbone, seed, protocol) for protocol in names]
    tables, curves = zip(*inputs.side_by_side(params, run, calls, inputs.lists()), strict=True)
    runs = pl.concat(tables).sort("variant", "protocol", "list", "sample")
    write_table(runs, layout.runs(variant, backbone, seed), RUNS)
    described = {"variant": variant, "backbone": backbone, "seed": seed}
    trained = dict(zip(names, curves, strict=True))
    write_json(layout.training(variant, backbone, seed), {**described, "protocols": trained})


def run(
    params: Params, variant: str, backbone: str, seed: int, protocol: str
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """One re-ranker: its RUNS rows and its training curve. The main protocol's is saved."""
    features = inputs.features(params, protocol)
    knowledge = knowledge_of(features, variant, params, seed)
    users, valid = features.users_of("train"), features.users_of("valid")
    trained = train(features, knowledge, params.ranker, backbone, seed, users, valid)
    if protocol == inputs.protocols()[0]:
        save(trained.model, layout.reranker(variant, backbone, seed))
    ranked = rank(trained.model, features, knowledge, inputs.judged_rows(features))
    table = runs_table(
        features,
        knowledge,
        ranked,
        variant=variant,
        protocol=protocol,
        backbone=backbone,
        seed=seed,
    )
    return table, trained.as_json()


def knowledge_of(built: Features, variant: str, params: Params, seed: int) -> Knowledge | None:
    """The text vectors that a variant gives to the re-ranker of a seed; None for no text."""
    if is_policy(variant, params.policies):
        return inputs.policy_knowledge(built, variant, params.knowledge.text)
    if variant == NONE:
        return None
    items = item_knowledge(built, read_vectors(layout.ITEM_VECTORS))
    drawn = derive_seed(params.seed, seed)
    if variant == NOISE:
        return random_knowledge(built, items.dimension, drawn)
    if variant in (HISTORY, SWAPPED):
        own = user_knowledge(built, items, read_vectors(layout.HISTORY_VECTORS), inputs.prompts())
        return own if variant == HISTORY else of_other_users(own, drawn)
    return items


if __name__ == "__main__":
    main()
