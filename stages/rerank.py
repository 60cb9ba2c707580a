"""Stage rerank VARIANT: fresh re-rankers of one variant, judged on the test users.

VARIANT is one of `baselines` in params.yaml (popularity, none, items, history, shown), or the
number of a policy. Lists without a liked item cannot tell re-rankers apart and are left out.
"""

from typing import Any

import click
import polars as pl

from rec.config import Params
from rec.files import write_json
from rec.rerank.training import judge, positive_rows, train
from rec.rerank.variants import ORDERS, policy_of, runs_table
from rec.tables import RUNS, write_table
from stages import inputs, layout
from stages.runner import stage


@stage
@click.argument("variant")
def main(params: Params, variant: str) -> None:
    """Train one re-ranker per seed and judge it on the test users."""
    policy_of(variant, params.policies)
    seeds = [0] if variant in ORDERS else params.rerank.seeds
    results = inputs.side_by_side(params, run, [(params, variant, seed) for seed in seeds])
    tables = [table for table, _ in results]
    write_table(pl.concat(tables).sort("seed", "list"), layout.runs(variant), RUNS)
    curves = [curve for _, curve in results if curve]
    write_json(layout.training(variant), {"variant": variant, "seeds": curves})


def run(params: Params, variant: str, seed: int) -> tuple[pl.DataFrame, dict[str, Any]]:
    """One re-ranker: its RUNS rows and its training curve."""
    features = inputs.features(params)
    test = positive_rows(features, features.users_of("test"), "test")
    if variant in ORDERS:
        return runs_table(features, ORDERS[variant](features, test), variant, seed), {}
    knowledge = inputs.knowledge(features, variant, params.policies)
    users, valid = features.users_of("train"), features.users_of("valid")
    trained = train(features, knowledge, params.ranker, seed, users, valid)
    judged = judge(trained.model, features, knowledge, test)
    return runs_table(features, judged, variant, seed), {"seed": seed, **trained.as_json()}


if __name__ == "__main__":
    main()
