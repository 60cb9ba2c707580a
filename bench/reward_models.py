"""Of how many reward models should the reward be the mean?

`python -m bench.reward_models [--round 1] [--models 4] [--backbone NAME ...]` reads a finished run
and trains several reward models per fold, of other seeds and of each backbone named. Some of them
pick among a train user's responses by one half of the user's lists, the mean of half of the models,
all of them others, values the pick by the other half: what a reward is worth to models that did not
give it, such as the re-rankers that are trained on a policy's texts afterwards. Each figure is the
mean over random choices of who picks and who values, and printed with its 95% interval over users:

- `agreement`: of single models on the same lists (ICC, `rec.mediation.agreement`);
- by measure and the number of models that pick: `reliability`, the correlation of pickers and
  valuers between the halves, and `best_of_n`, NDCG@5 points of the best of N minus the mean;
- `itself`: the same where one model picks and values. It holds the model's own reaction to a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.measure import print_figures
from rec.config import BACKBONES, Params, judged_policy
from rec.mediation.across import Crossed, Teams, crossed
from rec.mediation.agreement import agreement
from rec.mediation.halves import Halves, halves, joined
from rec.mediation.judging import chosen_users
from rec.mediation.resampling import Estimate
from rec.params import load_params
from rec.reward import judge_users, train_fold
from stages import inputs

MEASURES = ("ndcg", "log_likelihood")
CHOICES = 20  # of who picks and who values
RESAMPLES, SEED = 2000, 1


def judged(params: Params, policy: str, backbone: str, fold: int, number: int) -> Halves:
    """Train model `number` of a fold and judge the halves of the lists of the fold's users."""
    folds = params.reward.folds
    features = inputs.features(params)
    knowledge = inputs.policy_knowledge(features, policy, params.reward.text)
    settings = (params.ranker, backbone, params.seed, fold, folds, number)
    reward, _ = train_fold(features, knowledge, *settings)
    users = chosen_users(features, reward)
    return halves(judge_users(reward, features, knowledge, users), features)


def figures(each: Sequence[Halves]) -> dict[str, Any]:
    """The figures of models that judged the same texts and users."""
    owners, single = each[0].owners, [([number], [number]) for number in range(len(each))]
    found: dict[str, Any] = {
        "users": len(each[0].groups),
        "responses": len(owners),
        "models": len(each),
    }
    for measure in MEASURES:
        scores = np.stack([getattr(one, measure).mean(1) for one in each], axis=1)
        found[measure] = {
            "agreement": _rounded(agreement(scores, owners, RESAMPLES, SEED)),
            "itself": _figures(crossed(each, single, measure)),
            "by_others": {
                str(count): _figures(crossed(each, teams(len(each), count), measure))
                for count in _counts(len(each) // 2)
            },
        }
    return found


def teams(models: int, pickers: int) -> Teams:
    """Random choices of models that pick, and of another half of them that value."""
    rng = np.random.default_rng(SEED)
    orders = [rng.permutation(models).tolist() for _ in range(CHOICES)]
    return [(order[:pickers], order[models - models // 2 :]) for order in orders]


def _counts(most: int) -> list[int]:
    """Powers of two up to `most`, and `most`."""
    return sorted({2**power for power in range(8) if 2**power < most} | {most})


def _figures(found: Crossed) -> dict[str, list[float | None]]:
    return {
        "reliability": _rounded(found.reliability(RESAMPLES, SEED)),
        "best_of_n": _rounded(found.gain(RESAMPLES, SEED), 100),
    }


def _rounded(figure: Estimate, scale: float = 1) -> list[float | None]:
    """Value, low and high, to two digits."""
    numbers = (figure.value, figure.low, figure.high)
    return [None if number is None else round(number * scale, 2) for number in numbers]


@click.command()
@click.option("--round", "round_", default=1, help="Whose judged responses.")
@click.option("--models", default=4, type=click.IntRange(2), help="Per fold and backbone.")
@click.option("--backbone", "names", multiple=True, type=click.Choice(BACKBONES), help="Several.")
@click.option("--quick", is_flag=True, help="Two models per fold and backbone.")
def main(round_: int, models: int, names: tuple[str, ...], quick: bool) -> None:
    """Train the models and print what they pick is worth."""
    params = load_params(Path("params.yaml"))
    policy, folds = judged_policy(params, round_), params.reward.folds
    backbones = sorted(set(names)) or [params.reward.backbone]
    chosen = [(name, n) for n in range(2 if quick else models) for name in backbones]
    calls = [(params, policy, b, fold, n) for b, n in chosen for fold in range(folds)]
    parts = inputs.side_by_side(params, judged, calls)
    print_figures(figures([joined(parts[at : at + folds]) for at in range(0, len(parts), folds)]))


if __name__ == "__main__":
    main()
