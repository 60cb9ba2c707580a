"""Stage mediate ROUND: the chain from a round's texts to the reward of fresh ones."""

import click
import polars as pl

from rec import layout
from rec.config import Params, judged_policy
from rec.errors import RecError
from rec.files import write_json
from rec.knowledge import matrix, read_vectors, told_vectors
from rec.machine import use_threads
from rec.mediation.across import across_links
from rec.mediation.judging import FoldJudgement, RoundJudgement, judge_fold, judge_round
from rec.mediation.links import Link, as_json
from rec.mediation.rewards import agreement_links, fresh_links, response_links, swap_links
from rec.mediation.texts import Texts, text_links
from rec.reward import RewardModel, load_models, mean_over_folds
from rec.tables import SCORES, read_table
from stages import inputs
from stages.runner import stage


@stage
@click.argument("round_", metavar="ROUND", type=int)
def main(params: Params, round_: int) -> None:
    """Measure each link of a round, with an interval over users."""
    use_threads(params.machine.threads)
    policy, resamples, seed = judged_policy(params, round_), params.evaluate.bootstrap, params.seed
    measure = params.pairs.measure
    read, models = texts(params, policy), load_models(layout.reward(round_))
    folds = [[m for m in models if m.fold == fold] for fold in sorted({m.fold for m in models})]
    calls = [(params, policy, str(round_), of_fold) for of_fold in folds]
    features = inputs.features(params)
    knowledge = inputs.policy_knowledge(features, policy, params.reward.text)
    assert knowledge.first is not None
    judged = judge_round(inputs.side_by_side(params, run, calls), features)
    links = [
        *text_links(read, resamples, seed),
        *swap_links(judged.swapped, knowledge.first.cpu().numpy(), resamples, seed),
        *response_links(judged.responses, "train", measure, resamples, seed),
        *response_links(judged.valid, "valid", measure, resamples, seed),
        *agreement_links(judged.opinions, resamples, seed),
        *across_links(judged.each, resamples, seed),
        *fresh(round_, judged, measure, resamples, seed),
    ]
    write_json(layout.mediation(round_), {"round": round_, "policy": policy, **as_json(links)})


def run(params: Params, policy: str, after: str, models: list[RewardModel]) -> FoldJudgement:
    """What one fold's models make of the texts of the policies before and after the round."""
    features = inputs.features(params)
    text = params.reward.text
    before, fresh = (inputs.policy_knowledge(features, name, text) for name in (policy, after))
    return judge_fold(models, features, before, fresh)


def texts(params: Params, policy: str) -> Texts:
    """A policy's vectors beside those of the histories. Raises RecError for an unknown owner."""
    vectors = read_vectors(layout.vectors(policy))
    histories = read_vectors(layout.HISTORY_VECTORS)
    known = histories.select("key").with_row_index("row")
    splits = known.join(inputs.prompts(), on="key", how="left", maintain_order="left")["split"]
    owners = vectors.select("key").join(known, on="key", how="left", maintain_order="left")["row"]
    if owners.null_count() or splits.null_count():
        raise RecError(f"{layout.vectors(policy)}: a response has no prompt; sample again")
    return Texts(
        vectors=matrix(vectors),
        told=matrix(read_vectors(told_vectors(policy, params.reward.text))),
        owners=owners.cast(pl.Int64).to_numpy(),
        histories=matrix(histories),
        splits=splits.to_numpy().astype(str),
    )


def fresh(
    round_: int, judged: RoundJudgement, measure: str, resamples: int, seed: int
) -> list[Link]:
    """The reward of the round's own policy against that of the policy before."""
    before = read_table(layout.scores(round_), SCORES)
    splits = inputs.prompts().select("user", "split")
    after = mean_over_folds(judged.fresh)
    return fresh_links(before, after, splits, measure, resamples, seed)


if __name__ == "__main__":
    main()
