"""Stage rerank VARIANT: fresh re-rankers of one variant, judged on the test users.

VARIANT is popularity, none, items, history, or the number of a policy. Lists without a liked item
cannot tell re-rankers apart and are left out.
"""

import click
import polars as pl

from rec.config import Params
from rec.files import write_json
from rec.rerank.training import judge, positive_rows, train
from rec.rerank.variants import POPULARITY, initial_order, policy_of, runs_table
from rec.tables import RUNS, write_table
from stages import inputs, layout
from stages.runner import stage


@stage
@click.argument("variant")
def main(params: Params, variant: str) -> None:
    """Train one re-ranker per seed and judge it on the test users."""
    policy_of(variant, params.policies)
    inputs.use_threads(params)
    features = inputs.features(params)
    test = positive_rows(features, features.users_of("test"), "test")
    runs, curves = [], []
    if variant == POPULARITY:
        runs.append(runs_table(features, initial_order(features, test), variant, 0))
    else:
        knowledge = inputs.knowledge(features, variant, params.policies)
        users, valid = features.users_of("train"), features.users_of("valid")
        for seed in params.rerank.seeds:
            trained = train(features, knowledge, params.ranker, seed, users, valid)
            judged = judge(trained.model, features, knowledge, test)
            runs.append(runs_table(features, judged, variant, seed))
            curves.append({"seed": seed, **trained.as_json()})
    write_table(pl.concat(runs).sort("seed", "list"), layout.runs(variant), RUNS)
    write_json(layout.training(variant), {"variant": variant, "seeds": curves})


if __name__ == "__main__":
    main()
