"""A made-up run as the report reads it, and its page."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from rec import report
from rec.comparison.figures import figures
from rec.config import BASE
from rec.curves import ALIGNMENT_CURVES, reward_curves
from rec.params import load_params
from rec.report_tables import Run
from tests.aligned import alignment_table, outcome
from tests.described import statistics
from tests.mediation.chains import chain as mediation_chain
from tests.mediation.chains import retold
from tests.page import Page
from tests.synthetic_run import (
    BACKBONES,
    BASELINES,
    SEEDS,
    browsed,
    comparison,
    curve,
    health,
    identifiability,
    pair_figures,
    params_file,
    rejects_table,
    trained,
    user_metrics,
)

HOSTILE = "<script>alert(1)</script> & </script><img src=x onerror=alert(2)> <!-- {{ 7*7 }} '\""


def make_run(
    rounds: int = 2,
    text: str = "Loved films: Heat",
    title: str = "Heat",
    fine_tuned: bool = False,
) -> Run:
    with TemporaryDirectory() as folder:
        params = load_params(params_file(Path(folder), rounds, fine_tuned, name=title))
    numbers = range(1, rounds + 1)
    rewards = {
        t: {
            "models": [
                {
                    "fold": f,
                    "model": 0,
                    "valid_ndcg@5": 0.76 + 0.01 * (t + 2 * f),
                    "curve": curve(0.7),
                }
                for f in range(2)
            ],
        }
        for t in numbers
    }
    policies = params.policies
    aligned = {p: 1 if p == "sft" else int(p) for p in policies if p != BASE}
    lit = [alignment_table(t).with_columns(policy=pl.lit(p)) for p, t in aligned.items()]
    empty = pl.DataFrame(schema=dict(ALIGNMENT_CURVES))
    outcomes = {p: outcome(pairs=10 * (t - 1)) for p, t in aligned.items()}
    compared = comparison(rounds, fine_tuned)
    texts = {p: identifiability(p) for p in policies}
    return Run(
        params=params,
        comparison=compared,
        figures=figures(
            compared,
            user_metrics(rounds, fine_tuned),
            texts,
            {p: health() for p in policies},
            outcomes,
        ),
        reward_curves=reward_curves(rewards),
        alignment_curves=pl.concat([empty, *(t.select(empty.columns) for t in lit)]),
        outcomes=outcomes,
        rewards=rewards,
        training={
            (variant, backbone): [trained(variant, backbone, seed) for seed in SEEDS]
            for variant in [*BASELINES, *policies]
            for backbone in BACKBONES
        },
        pairs_metrics={t: pair_figures(held_out=2 + t) for t in numbers},
        sampling={p: {**health(), "responses": 700 + n} for n, p in enumerate(policies)},
        speeds={p: None if p == BASE else 512.3 for p in policies},
        statistics=statistics(),
        rejects=rejects_table(title),
        mediation={number: mediation_chain() for number in numbers},
        controls={policy: retold() for policy in params.fine_tuned},
        browsed=browsed(rounds, text, title, fine_tuned),
    )


@cache
def good() -> tuple[str, Page]:
    html = report.render(make_run())
    return html, Page(html)


@cache
def hostile() -> tuple[str, Page]:
    html = report.render(make_run(text=HOSTILE, title=HOSTILE))
    return html, Page(html)
