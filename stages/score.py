"""Stage score ROUND: what the reward models think of train and validation users' responses."""

import click
import polars as pl

from rec import layout
from rec.config import Params, judged_policy
from rec.reward import RewardModel, load_models, mean_over_folds, score_fold, score_valid
from rec.tables import SCORES, write_table
from stages import inputs
from stages.runner import stage


@stage
@click.argument("round_", metavar="ROUND", type=int)
def main(params: Params, round_: int) -> None:
    """Score every response by the reward models that were not trained on its user."""
    policy = judged_policy(params, round_)
    models = load_models(layout.reward(round_))
    tables = inputs.side_by_side(params, run, [(params, policy, model) for model in models])
    write_table(mean_over_folds(tables), layout.scores(round_), SCORES)


def run(params: Params, policy: str, model: RewardModel) -> pl.DataFrame:
    """The scores of one fold's train users, and what its model makes of the validation users."""
    features = inputs.features(params)
    knowledge = inputs.policy_knowledge(features, policy, params.reward.text)
    return pl.concat([score(model, features, knowledge) for score in (score_fold, score_valid)])


if __name__ == "__main__":
    main()
