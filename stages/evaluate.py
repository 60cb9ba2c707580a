"""Stage evaluate: the comparison of all variants, and the curves, as metrics.json and plots/."""

from rec import evaluation
from rec.config import Params
from rec.curves import alignment_curves, reward_curves, write_csv
from rec.files import read_json, write_json
from rec.outcomes import read_outcome
from rec.results import results_plot
from rec.tables import RUNS, read_table
from stages import layout
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Compare the variants on the test users."""
    variants = evaluation.variants(params.policies, params.baselines)
    rounds = [int(number) for number in params.rounds]
    summaries = {number: layout.alignment_summary(number) for number in rounds}
    metrics = evaluation.evaluate(
        {variant: read_table(layout.runs(variant), RUNS) for variant in variants},
        {policy: read_json(layout.identifiability(policy)) for policy in params.policies},
        {policy: read_json(layout.sampling_metrics(policy)) for policy in params.policies},
        {number: read_outcome(path, params.align.beta) for number, path in summaries.items()},
        params.evaluate.bootstrap,
        params.seed,
    )
    rewards = {number: read_json(layout.reward(number) / "reward.json") for number in rounds}
    alignments = {number: layout.alignment_curve(number) for number in rounds}
    write_csv(results_plot(metrics), layout.PLOTS / "results.csv")
    write_csv(reward_curves(rewards), layout.PLOTS / "reward.csv")
    write_csv(alignment_curves(alignments), layout.PLOTS / "alignment.csv")
    write_json(layout.METRICS, metrics)


if __name__ == "__main__":
    main()
