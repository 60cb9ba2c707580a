"""Stages retell, retell-sft: re-rankers trained on the texts of one policy, told another's.

The other is trained from the one: by a round of DPO, or fine-tuned on the chosen responses.

They are the re-rankers of the comparison: no reward came from them, and nothing was trained on test
users' lists. The same re-ranker ranks the same lists twice, so that what it gains is the text's;
how one that is trained anew on the new texts comes out is left to the comparison.
"""

from collections.abc import Mapping

import click
import polars as pl

from rec import layout
from rec.config import Params, start_policy
from rec.files import write_json
from rec.machine import device, use_threads
from rec.mediation.links import as_json
from rec.mediation.rankings import retold_links
from rec.rerank.features import Features, Knowledge
from rec.rerank.ranking import judge, user_table
from rec.rerank.reranker import load
from stages import inputs
from stages.runner import stage


@stage
@click.argument("policy")
def main(params: Params, policy: str) -> None:
    """Rank lists with the texts of a POLICY, and with those of the one it is trained from."""
    use_threads(params.machine.threads)
    policies = (policy, start_policy(params, policy))
    features = inputs.features(params)
    text = params.knowledge.text
    told = {name: inputs.policy_knowledge(features, name, text) for name in policies}
    users = pl.concat(
        [
            ranked(features, told, policies[1], backbone, seed)
            for backbone in params.rerank.backbones
            for seed in params.rerank.seeds
        ]
    )
    links = retold_links(users, policies, params.evaluate.bootstrap, params.seed)
    write_json(layout.retold(policy), as_json(links))


def ranked(
    features: Features, told: Mapping[str, Knowledge], trained_on: str, backbone: str, seed: int
) -> pl.DataFrame:
    """Each user's metrics by a re-ranker of one policy, told the texts of each of the policies."""
    rows = inputs.judged_rows(features)
    model = load(layout.reranker(trained_on, backbone, seed), device())
    return pl.concat(
        [
            user_table(features, judge(model, features, knowledge, rows)).with_columns(
                pl.lit(policy).alias("variant"),
                pl.lit(backbone).alias("backbone"),
                pl.lit(seed).alias("seed"),
            )
            for policy, knowledge in told.items()
        ]
    )


if __name__ == "__main__":
    main()
