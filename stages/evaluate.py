"""Stage evaluate: the comparison of all variants, and the curves, as metrics.json and plots/."""

from collections.abc import Iterator

import polars as pl

from rec import layout
from rec.comparison.families import Draws, compare
from rec.comparison.figures import figures, metrics
from rec.comparison.result import write_comparison
from rec.comparison.slices import history_thirds, list_classes
from rec.comparison.users import Run, user_tables
from rec.config import BASE, Params, protocols
from rec.curves import alignment_curves, reward_curves, write_csv
from rec.files import read_json, write_json
from rec.mediation.links import as_json
from rec.mediation.rankings import ranking_links
from rec.outcomes import read_outcome
from rec.results import results_plot
from rec.tables import ITEMS, LISTS, RUNS, USER_METRICS, read_table, write_table
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Compare the variants on the test users."""
    lists = read_table(layout.LISTS, LISTS).filter(pl.col("split") == "test")
    classes = list_classes(lists, read_table(layout.ITEMS, ITEMS))
    names = protocols(params.data, params.prepare)
    tables = user_tables(runs(params), names, classes)
    draws = Draws(params.evaluate.bootstrap, params.evaluate.permutations, params.seed)
    comparison = compare(tables, names, history_thirds(lists), draws)
    aligned = [policy for policy in params.policies if policy != BASE]
    beta = params.align.beta
    found = figures(
        comparison,
        tables.users,
        {policy: read_json(layout.identifiability(policy)) for policy in params.policies},
        {policy: read_json(layout.sampling_metrics(policy)) for policy in params.policies},
        {policy: read_outcome(layout.alignment_summary(policy), beta) for policy in aligned},
    )
    rewards = {int(r): read_json(layout.reward(int(r)) / "reward.json") for r in params.rounds}
    curves = alignment_curves({policy: layout.alignment_curve(policy) for policy in aligned})
    for number, before in params.rounds.items():
        after, drawn = (number, before), (draws.bootstrap, draws.seed)
        links = ranking_links(tables.users, names[0], after, *drawn)
        write_json(layout.ranking_links(int(number)), as_json(links))
    write_table(tables.users, layout.USER_METRICS, USER_METRICS)
    write_comparison(layout.DIFFERENCES, comparison)
    write_csv(results_plot(comparison), layout.PLOTS / "results.csv")
    write_csv(reward_curves(rewards), layout.PLOTS / "reward.csv")
    write_csv(curves, layout.PLOTS / "alignment.csv")
    write_json(layout.FIGURES, found)
    write_json(layout.METRICS, metrics(comparison, found))


def runs(params: Params) -> Iterator[tuple[Run, pl.DataFrame]]:
    """All runs of the parameters, each read when its turn comes."""
    orders = read_table(layout.ORDER_RUNS, RUNS)
    for order in params.orders:
        yield Run(order), orders.filter(pl.col("variant") == order)
    for variant in [*params.baselines, *params.policies]:
        for backbone in params.rerank.backbones:
            for seed in params.rerank.seeds:
                run = Run(variant, backbone, seed)
                yield run, read_table(layout.runs(*run), RUNS)


if __name__ == "__main__":
    main()
