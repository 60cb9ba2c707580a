"""Stage score ROUND: what the reward models think of each response of a train user."""

import click
import polars as pl

from rec.config import Params, judged_policy
from rec.reward import RewardModel, load_models, score_fold
from rec.tables import SCORES, write_table
from stages import inputs, layout
from stages.runner import stage


@stage
@click.argument("round_", metavar="ROUND", type=int)
def main(params: Params, round_: int) -> None:
    """Score every response by the reward model that never saw its user."""
    policy = judged_policy(params, round_)
    models = load_models(layout.reward(round_))
    tables = inputs.side_by_side(params, run, [(params, policy, model) for model in models])
    write_table(pl.concat(tables).sort("user", "sample"), layout.scores(round_), SCORES)


def run(params: Params, policy: int, model: RewardModel) -> pl.DataFrame:
    """The scores of one fold's users."""
    features = inputs.features(params)
    knowledge = inputs.policy_knowledge(features, policy, params.policies)
    return score_fold(model, features, knowledge)


if __name__ == "__main__":
    main()
