"""What makes the reward of a user's responses noisy: the models, the negatives or the positives?

`python -m bench.reward_noise [--round 1] [--models 4]` reads a finished run, trains several reward
models per fold (of other seeds, and of other backbones where several are named) and prints, for the
train users' responses, each figure with its 95% interval over users:

- `models`: agreement of two models on the same lists (ICC, `rec.mediation.agreement`);
- `negatives`: correlation of the mean reward on the lists of both protocols, which have the same
  positives behind other negatives, where there are two protocols;
- `positives`: correlation of the mean reward on the two halves of a user's lists, by the number of
  models in the mean. What more models cannot lift is noise of the user's next items;
- `best_of_n`: NDCG@5 points of the best of N picked on one half, on the other half.

All are of scores relative to their user's mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.measure import print_figures
from rec.config import BACKBONES, Params, judged_policy
from rec.mediation.agreement import Opinions, agreement, opinions
from rec.mediation.halves import Halves, halves, joined, moments, picks, user_groups
from rec.mediation.judging import chosen_users, mean_judged
from rec.mediation.resampling import Estimate
from rec.params import load_params
from rec.rerank.features import Features
from rec.rerank.ranking import Judged
from rec.rerank.training import train
from rec.reward import RewardModel, fold_of, judge_users
from rec.seeds import derive_seed
from stages import inputs

MEASURES = ("ndcg", "log_likelihood")
SEED = 1

#: What one model makes of its fold's users, by protocol.
Judgements = dict[str, Judged]


def judgements(
    params: Params, policy: str, backbone: str, fold: int, number: int, protocols: list[str]
) -> Judgements:
    """Train the model `number` of a fold on the main lists; judge its users' lists by protocol."""
    folds = params.reward.folds
    features = inputs.features(params)
    knowledge = inputs.policy_knowledge(features, policy, params)
    others = [u for u in features.users_of("train") if fold_of(params.seed, u, folds) != fold]
    valid = features.users_of("valid")
    seed = derive_seed(params.seed, backbone, fold, number)
    trained = train(features, knowledge, params.ranker, backbone, seed, others, valid)
    reward = RewardModel(trained.model, fold, folds, params.seed)
    users = chosen_users(features, reward)
    found = {}
    for protocol in protocols:
        lists = inputs.features(params, protocol)
        found[protocol] = judge_users(
            reward, lists, inputs.policy_knowledge(lists, policy, params), users
        )
    return found


def figures(folds: list[list[Judgements]], features: dict[str, Features]) -> dict[str, Any]:
    """The figures of models by fold; `features` by protocol, the main one first."""
    main, *others = features
    counts = sorted({2**power for power in range(8) if 2**power < len(folds[0])} | {len(folds[0])})
    judged = [[model[main] for model in models] for models in folds]
    each = _joined([opinions(models, features[main]) for models in judged])
    found: dict[str, Any] = {
        "users": len(user_groups(each.owners)),
        "responses": len(each.owners),
        "models": {
            name: _told(agreement(getattr(each, name), each.owners, 2000, SEED))
            for name in MEASURES
        },
    }
    for other in others:
        again = _joined([opinions([m[other] for m in models], features[other]) for models in folds])
        found["negatives"] = {name: _across(each, again, name) for name in MEASURES}
    split = {
        count: joined([halves(mean_judged(models[:count]), features[main]) for models in judged])
        for count in counts
    }
    for name in MEASURES:
        key = f"by_{name}"
        found[key] = {
            "positives": {str(count): _halves(parts, name) for count, parts in split.items()},
            "best_of_n": {str(count): _best(parts, name) for count, parts in split.items()},
        }
    return found


def _joined(parts: list[Opinions]) -> Opinions:
    """The opinions of different folds, whose users are others, sorted by user."""
    columns = [
        np.concatenate([getattr(part, name) for part in parts]) for name in ("owners", *MEASURES)
    ]
    order = np.argsort(columns[0], kind="stable")
    return Opinions(*(column[order] for column in columns))


def _across(main: Opinions, other: Opinions, name: str) -> list[float | None]:
    both = np.stack([getattr(table, name).mean(1) for table in (main, other)], axis=1)
    return _told(moments(both, user_groups(main.owners)).reliability(2000, SEED))


def _halves(parts: Halves, name: str) -> list[float | None]:
    return _told(moments(getattr(parts, name), parts.groups).reliability(2000, SEED))


def _best(parts: Halves, name: str) -> list[float | None]:
    return _told(picks(getattr(parts, name), parts.ndcg, parts.groups).gain(2000, SEED), 100)


def _told(figure: Estimate, scale: float = 1) -> list[float | None]:
    """Value and interval, to two digits."""
    numbers = (figure.value, figure.low, figure.high)
    return [None if number is None else round(number * scale, 2) for number in numbers]


@click.command()
@click.option("--round", "round_", default=1, help="Whose judged responses.")
@click.option("--models", default=4, type=click.IntRange(2), help="Per fold and backbone.")
@click.option(
    "--backbone", "names", multiple=True, type=click.Choice(BACKBONES), help="One or more."
)
@click.option("--quick", is_flag=True, help="Two models per fold.")
def main(round_: int, models: int, names: tuple[str, ...], quick: bool) -> None:
    """Train the models and print what they agree on."""
    params = load_params(Path("params.yaml"))
    policy, protocols = judged_policy(params, round_), inputs.protocols()
    backbones = names or (params.reward.backbone,)
    chosen = [(name, n) for n in range(2 if quick else models) for name in backbones]
    folds = params.reward.folds
    calls = [(params, policy, b, fold, n, protocols) for fold in range(folds) for b, n in chosen]
    trained = inputs.side_by_side(params, judgements, calls)
    by_fold = [trained[at : at + len(chosen)] for at in range(0, len(trained), len(chosen))]
    print_figures(figures(by_fold, {name: inputs.features(params, name) for name in protocols}))


if __name__ == "__main__":
    main()
