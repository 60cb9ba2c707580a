"""Stage score ROUND: what the reward models think of each response of a train user."""

import click
import polars as pl

from rec.config import Params
from rec.reward import load_models, score_fold
from rec.tables import SCORES, write_table
from stages import inputs, layout
from stages.runner import stage


@stage
@click.argument("round_", metavar="ROUND", type=int)
def main(params: Params, round_: int) -> None:
    """Score every response by the reward model that never saw its user."""
    inputs.use_threads(params)
    policy = inputs.judged_policy(params, round_)
    models = load_models(layout.reward(round_))
    features = inputs.features(params)
    knowledge = inputs.knowledge(features, str(policy), params.policies)
    assert knowledge is not None
    tables = [score_fold(model, features, knowledge) for model in models]
    write_table(pl.concat(tables).sort("user", "sample"), layout.scores(round_), SCORES)


if __name__ == "__main__":
    main()
