"""Stage retell ROUND: re-rankers trained on the texts before a round, told those after it.

They are the re-rankers of the comparison: no reward came from them, and test users had no part in
anything before. The same re-ranker ranks the same lists twice, so that what it gains is the text's;
how a re-ranker trained anew on the new texts comes out is left to the comparison.
"""

import click
import polars as pl

from rec import layout
from rec.config import Params, judged_policy
from rec.files import write_json
from rec.machine import device, use_threads
from rec.mediation.links import as_json
from rec.mediation.rankings import retold_links
from rec.rerank.ranking import judge, user_table
from rec.rerank.reranker import load
from stages import inputs
from stages.runner import stage


@stage
@click.argument("round_", metavar="ROUND", type=int)
def main(params: Params, round_: int) -> None:
    """Rank validation and test users' lists with the texts of both policies."""
    use_threads(params.machine.threads)
    before, after = judged_policy(params, round_), str(round_)
    users = pl.concat(
        [
            told(params, before, after, backbone, seed)
            for backbone in params.rerank.backbones
            for seed in params.rerank.seeds
        ]
    )
    links = retold_links(users, (after, before), params.evaluate.bootstrap, params.seed)
    write_json(layout.retold(round_), as_json(links))


def told(params: Params, before: str, after: str, backbone: str, seed: int) -> pl.DataFrame:
    """Each user's metrics, told either policy's texts, by one re-ranker of the policy before."""
    features = inputs.features(params)
    rows = inputs.judged_rows(features)
    model = load(layout.reranker(before, backbone, seed), device())
    tables = []
    for policy in (before, after):
        knowledge = inputs.policy_knowledge(features, policy, params.knowledge.text)
        found = user_table(features, judge(model, features, knowledge, rows))
        tables.append(
            found.with_columns(
                pl.lit(policy).alias("variant"),
                pl.lit(backbone).alias("backbone"),
                pl.lit(seed).alias("seed"),
            )
        )
    return pl.concat(tables)


if __name__ == "__main__":
    main()
