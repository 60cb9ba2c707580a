"""Stage report: everything that the run found, as one page that opens without a network."""

from rec import evaluation
from rec.config import UNTRAINED, Params
from rec.curves import ALIGNMENT_CURVES, REWARD_CURVES, read_csv
from rec.files import atomic_path, read_json
from rec.outcomes import read_outcome
from rec.report import render
from rec.report_tables import Run
from rec.tables import PAIRS, PROMPTS, REJECTS, read_table
from stages import layout
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Write report.html."""
    rounds = [int(number) for number in params.rounds]
    variants = evaluation.variants(params.policies, params.baselines)
    trained = [variant for variant in variants if variant not in UNTRAINED]
    run = Run(
        params=params,
        metrics=read_json(layout.METRICS),
        reward_curves=read_csv(layout.PLOTS / "reward.csv", REWARD_CURVES),
        alignment_curves=read_csv(layout.PLOTS / "alignment.csv", ALIGNMENT_CURVES),
        outcomes={
            number: read_outcome(layout.alignment_summary(number), params.align.beta)
            for number in rounds
        },
        rewards={number: read_json(layout.reward(number) / "reward.json") for number in rounds},
        training={variant: read_json(layout.training(variant)) for variant in trained},
        pairs={number: read_table(layout.pairs(number), PAIRS) for number in rounds},
        pairs_metrics={number: read_json(layout.pairs_metrics(number)) for number in rounds},
        sampling={policy: read_json(layout.sampling_metrics(policy)) for policy in params.policies},
        statistics=read_json(layout.STATISTICS),
        rejects=read_table(layout.REJECTS, REJECTS),
        prompts=read_table(layout.PROMPTS, PROMPTS),
    )
    with atomic_path(layout.REPORT) as temporary:
        temporary.write_text(render(run), encoding="utf-8")


if __name__ == "__main__":
    main()
