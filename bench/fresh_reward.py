"""Are fresh responses better to models that had no part in the round?

`python -m bench.fresh_reward [--after POLICY] [--models 4] [--backbone NAME ...]` reads a finished
run, and tells judges what its re-rankers are told (`knowledge.text`).
The chain of mediation gives the reward of fresh responses by the round's own reward models: the
LLM was aligned with their picks, and they stopped early on the validation users whose responses
they then judge. Here judges of other seeds, trained on the responses of all train users, judge

- `valid`: each half of the validation users, by judges that stopped early on the other half;
- `test`: the test users, by judges that stopped early on all validation users.

A judge is trained twice: on the responses of the policy `before` the round, and on those of the
policy `after` it; both judge the responses of both. So what the ranking of test users gains
(`ranking`: judges and responses of `after` against judges and responses of `before`) is cut in two:
what the new responses are worth to the judges of before (`gain`), and what judges learn from them
(`learned`). Figures are means over judges and users with 95% intervals over both: NDCG@5 in
points, log-likelihood of the labels in nats a list; the levels of NDCG@5 from 0 to 1. The fourth
number of a difference is its p, not corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import polars as pl

from bench.measure import print_figures
from rec.comparison.families import Draws, tested
from rec.comparison.intervals import ends, resampled_means
from rec.comparison.result import Difference
from rec.config import BACKBONES, TOLD, Params, start_policy
from rec.errors import RecError
from rec.params import load_params
from rec.rerank.ranking import judge, positive_rows, user_table
from rec.rerank.training import train
from rec.seeds import derive_seed
from stages import inputs

Floats = npt.NDArray[np.float64]

MEASURES = {"ndcg@5": 100.0, "log_likelihood": 1.0}  # and what their differences are printed by
DRAWS = Draws(bootstrap=2000, permutations=10_000, seed=1)


def judgements(
    params: Params, policies: tuple[str, str], text: str, learned: int, backbone: str, number: int
) -> pl.DataFrame:
    """What one judge makes of the responses of both policies.

    `learned` is the place in `policies` of the one on whose responses it is trained.
    Returns user, judge, split, learned, told (0 before, 1 after) and the measures, means over a
    user's lists and responses.
    """
    features = inputs.features(params)
    told = [inputs.policy_knowledge(features, policy, text) for policy in policies]
    learners, valid = features.users_of("train"), features.users_of("valid")
    first, second = halves(valid, params.seed)
    stops_and_judges = {
        "test": (valid, features.users_of("test")),
        "first half": (second, first),
        "second half": (first, second),
    }
    tables = []
    for part, (stopping, judged) in stops_and_judges.items():
        seed = derive_seed(params.seed, "fresh judge", part, backbone, number)
        trained = train(features, told[learned], params.ranker, backbone, seed, learners, stopping)
        rows = positive_rows(features, judged, part)
        tables += [
            user_table(features, judge(trained.model, features, knowledge, rows)).with_columns(
                pl.lit(f"{backbone}-{number}").alias("judge"),
                pl.lit(learned).alias("learned"),
                pl.lit(after).alias("told"),
            )
            for after, knowledge in enumerate(told)
        ]
    return pl.concat(tables)


def halves(users: Sequence[str], seed: int) -> list[list[str]]:
    """Two halves of some users, by a hash; in each the order that they had."""
    order = sorted(users, key=lambda user: (derive_seed(seed, "half of judges", user), user))
    first = set(order[: len(order) // 2])
    return [[user for user in users if (user in first) == own] for own in (True, False)]


def figures(found: pl.DataFrame) -> dict[str, Any]:
    """The figures of all judges, by split and measure."""
    result: dict[str, Any] = {}
    for split in ("valid", "test"):
        own = found.filter(split=split)
        result[split] = {
            "users": own["user"].n_unique(),
            **{measure: _measure(own, measure, points) for measure, points in MEASURES.items()},
        }
    return result


def _measure(found: pl.DataFrame, measure: str, points: float) -> dict[str, Any]:
    kinds = {
        "before told before": {"learned": 0, "told": 0},
        "before told after": {"learned": 0, "told": 1},
        "after told before": {"learned": 1, "told": 0},
        "after told after": {"learned": 1, "told": 1},
    }
    cells = [_cell(found.filter(**kind), measure) for kind in kinds.values()]
    table = np.stack(cells, axis=2)  # [judges, users, kinds]
    means = resampled_means(table, DRAWS.bootstrap, DRAWS.seed)
    low, high = ends(means)
    levels = np.stack([table.mean(axis=(0, 1)), low, high], axis=1).round(4).tolist()
    compared = [
        ("before told after", "before told before"),
        ("after told after", "after told before"),
        ("after told after", "before told after"),
        ("after told after", "before told before"),
    ]
    by_before, by_after, learned, ranking = (
        _difference(one, points) for one in tested(list(kinds), table, means, compared, DRAWS)
    )
    return {
        "judges_of_before": {
            "told_before": levels[0],
            "told_after": levels[1],
            "gain": by_before,
        },
        "judges_of_after": {
            "told_before": levels[2],
            "told_after": levels[3],
            "gain": by_after,
        },
        "learned": learned,
        "ranking": ranking,
    }


def _cell(found: pl.DataFrame, measure: str) -> Floats:
    """A measure as [judges, users], both in the order of their names."""
    wide = found.pivot("user", index="judge", values=measure, sort_columns=True).sort("judge")
    cell: Floats = wide.drop("judge").to_numpy()
    return cell


def _difference(found: Difference, points: float) -> list[float]:
    """Value, low and high, and the p without a correction."""
    estimate = found.estimate
    ends_of = (estimate.value, estimate.low, estimate.high)
    return [*(round(number * points, 4) for number in ends_of), round(found.p, 4)]


@click.command()
@click.option("--after", default="1", help="A trained policy; the one it started from is before.")
@click.option("--models", default=4, type=click.IntRange(1), help="Judges per backbone.")
@click.option("--backbone", "names", multiple=True, type=click.Choice(BACKBONES), help="Several.")
@click.option(
    "--text",
    type=click.Choice(list(TOLD)),
    default=None,
    help="Default: `knowledge.text`, what re-rankers read.",
)
@click.option("--quick", is_flag=True, help="One judge per backbone.")
def main(
    after: str,
    models: int,
    names: tuple[str, ...],
    text: str | None,
    quick: bool,
) -> None:
    """Train the judges and print what fresh responses are worth to them."""
    try:
        params = load_params(Path("params.yaml"))
        policies = (start_policy(params, after), after)
    except RecError as error:
        raise click.ClickException(str(error)) from error
    backbones = sorted(set(names)) or list(params.rerank.backbones)
    calls = [
        (params, policies, text or params.knowledge.text, learned, backbone, number)
        for number in range(1 if quick else models)
        for backbone in backbones
        for learned in (0, 1)
    ]
    found = pl.concat(inputs.side_by_side(params, judgements, calls))
    print_figures({"judges": len(calls) // 2, "of": policies, **figures(found)})


if __name__ == "__main__":
    main()
