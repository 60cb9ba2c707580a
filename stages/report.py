"""Stage report: everything that the run found, as one page that opens without a network."""

from rec import layout
from rec.comparison.result import read_comparison
from rec.config import BASE, Params
from rec.curves import ALIGNMENT_CURVES, REWARD_CURVES, read_csv
from rec.errors import RecError
from rec.files import atomic_path, read_json, sha256
from rec.mediation.links import read_links
from rec.outcomes import read_outcome
from rec.report import render
from rec.report_browser import Browsed
from rec.report_tables import Run
from rec.tables import (
    ITEMS,
    LISTS,
    PAIRS,
    PROMPTS,
    REJECTS,
    RESPONSES,
    RUNS,
    USER_METRICS,
    USERS,
    read_table,
)
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
        figures=read_json(layout.FIGURES),
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
        pairs_metrics={number: read_json(layout.pairs_metrics(number)) for number in rounds},
        sampling={policy: read_json(layout.sampling_metrics(policy)) for policy in params.policies},
        speeds={policy: _speed(policy) for policy in params.policies},
        statistics=read_json(layout.STATISTICS),
        rejects=read_table(layout.REJECTS, REJECTS),
        mediation={
            number: [
                *read_links(layout.mediation(number)),
                *read_links(layout.retold(str(number))),
                *read_links(layout.ranking_links(number)),
            ]
            for number in rounds
        },
        controls={policy: read_links(layout.retold(policy)) for policy in params.fine_tuned},
        browsed=_browsed(params, rounds),
    )
    with atomic_path(layout.REPORT) as temporary:
        temporary.write_text(render(run), encoding="utf-8")


def _browsed(params: Params, rounds: list[int]) -> Browsed:
    """What the browser shows; of re-rankers those of the first backbone and seed."""
    reranker = params.rerank.backbones[0], params.rerank.seeds[0]
    variants = [*params.baselines, *params.policies]
    return Browsed(
        pairs={number: read_table(layout.pairs(number), PAIRS) for number in rounds},
        held_out={number: read_table(layout.heldout_pairs(number), PAIRS) for number in rounds},
        prompts=read_table(layout.PROMPTS, PROMPTS),
        responses={p: read_table(layout.responses(p), RESPONSES) for p in params.policies},
        users=read_table(layout.USERS, USERS),
        items=read_table(layout.ITEMS, ITEMS),
        lists=read_table(layout.LISTS, LISTS),
        runs={v: read_table(layout.runs(v, *reranker), RUNS) for v in variants},
        metrics=read_table(layout.USER_METRICS, USER_METRICS),
    )


def _speed(policy: str) -> float | None:
    """Tokens per second with which this machine drew the responses that are there, if it did."""
    path = layout.drawing(policy)
    if not path.is_file():
        return None
    found = read_json(path)
    try:
        if found["responses"] != sha256(layout.responses(policy)):
            return None
        return float(found["tokens"] / found["seconds"])
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise RecError(f"{path}: not the speed of drawing ({error!r}); remove it") from error


if __name__ == "__main__":
    main()
