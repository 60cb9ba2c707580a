"""Stage report: everything that the run found, as one page that opens without a network."""

from rec import layout
from rec.comparison.result import read_comparison
from rec.config import BASE, Params
from rec.curves import ALIGNMENT_CURVES, REWARD_CURVES, read_csv
from rec.files import atomic_path, read_json
from rec.mediation.links import read_links
from rec.outcomes import read_outcome
from rec.report import render
from rec.report_tables import Run
from rec.tables import PAIRS, PROMPTS, REJECTS, read_table
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Write report.html."""
    rounds = [int(number) for number in params.rounds]
    aligned = [policy for policy in params.policies if policy != BASE]
    rerank = params.rerank
    run = Run(
        params=params,
        comparison=read_comparison(layout.DIFFERENCES),
        metrics=read_json(layout.METRICS),
        reward_curves=read_csv(layout.PLOTS / "reward.csv", REWARD_CURVES),
        alignment_curves=read_csv(layout.PLOTS / "alignment.csv", ALIGNMENT_CURVES),
        outcomes={
            policy: read_outcome(layout.alignment_summary(policy), params.align.beta)
            for policy in aligned
        },
        rewards={number: read_json(layout.reward(number) / "reward.json") for number in rounds},
        training={
            (variant, backbone): [
                read_json(layout.training(variant, backbone, seed)) for seed in rerank.seeds
            ]
            for variant in [*params.baselines, *params.policies]
            for backbone in rerank.backbones
        },
        pairs={number: read_table(layout.pairs(number), PAIRS) for number in rounds},
        pairs_metrics={number: read_json(layout.pairs_metrics(number)) for number in rounds},
        sampling={policy: read_json(layout.sampling_metrics(policy)) for policy in params.policies},
        statistics=read_json(layout.STATISTICS),
        rejects=read_table(layout.REJECTS, REJECTS),
        prompts=read_table(layout.PROMPTS, PROMPTS),
        mediation={
            number: [
                *read_links(layout.mediation(number)),
                *read_links(layout.ranking_links(number)),
            ]
            for number in rounds
        },
    )
    with atomic_path(layout.REPORT) as temporary:
        temporary.write_text(render(run), encoding="utf-8")


if __name__ == "__main__":
    main()
