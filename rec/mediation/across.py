"""What one reward model picks, valued by others: how much of a reward is the model's own taste?

Two halves of a user's lists that are judged by the same models share what a text does to these, for
this user: their own reaction, which no other model need have. Re-rankers that are trained anew on a
policy's texts are other models. So the text is picked here by some models on one half, and valued
by others on the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rec.mediation.halves import Halves, Moments, moments, picks
from rec.mediation.links import BEST_OF_N, CORRELATION, POINTS, RELIABILITY, Link, link
from rec.mediation.resampling import Estimate, Floats, estimate, mean_of

#: Numbers of the models that pick, and of those that value what was picked.
Teams = Sequence[tuple[Sequence[int], Sequence[int]]]


@dataclass(frozen=True)
class Crossed:
    """Per user (of U with several texts) the means over teams and both directions of the halves."""

    shared: Moments  # of the pickers' score on one half and the valuers' on the other
    gains: Floats  # [U] NDCG@5 by the valuers: the text that the pickers find best, minus the mean

    def reliability(self, resamples: int, seed: int) -> Estimate:
        """Correlation of pickers and valuers between the halves, relative to a user's mean."""
        return self.shared.reliability(resamples, seed)

    def gain(self, resamples: int, seed: int) -> Estimate:
        """What the best of N is worth to models that did not pick it."""
        return estimate(mean_of(self.gains), len(self.gains), resamples, seed)


def crossed(each: Sequence[Halves], teams: Teams, measure: str) -> Crossed:
    """Judgements of the same texts by several models, `each`, crossed by `teams`.

    `measure` is the attribute of Halves that picks; gains are in NDCG@5. With one model there is
    nobody to value what it picks, and no user has a figure.
    """
    groups, columns, gains = each[0].groups, [], []
    for pickers, valuers in teams:
        by, worth = (_mean(each, team, measure) for team in (pickers, valuers))
        for half in (0, 1):
            columns.append(moments(np.stack([by[:, half], worth[:, 1 - half]], axis=1), groups))
        found = picks(by, _mean(each, valuers, "ndcg"), groups)
        gains.append(found.best - found.mean)
    if not gains:
        return Crossed(moments(each[0].ndcg, []), np.zeros(0))
    names = ("product", "first", "second", "mean", "noise_of_mean")
    shared = [np.mean([getattr(one, name) for one in columns], axis=0) for name in names]
    return Crossed(Moments(*shared), np.mean(gains, axis=0))


def one_against_others(models: int) -> Teams:
    """Each model picks once, the mean of all others values."""
    if models < 2:
        return []
    return [([one], [other for other in range(models) if other != one]) for one in range(models)]


def _mean(each: Sequence[Halves], team: Sequence[int], measure: str) -> Floats:
    scores: Floats = np.mean([getattr(each[number], measure) for number in team], axis=0)
    return scores


def across_links(each: Sequence[Halves], resamples: int, seed: int) -> list[Link]:
    """The links of validation users, whom all models of a round judge, each against the others.

    Models of different folds share train users, so that they may be more alike than fresh ones, and
    stopped early on these users' lists (with responses that do not count, where there are enough
    others: `rec.mediation.judging.without_first`).
    """
    teams = one_against_others(len(each))
    links = []
    for measure, name, label in (
        ("ndcg", "across", "by NDCG@5"),
        ("log_likelihood", "log_likelihood_across", "by log-likelihood"),
    ):
        found = crossed(each, teams, measure)
        links += [
            link(
                RELIABILITY,
                f"{name}_valid",
                f"Split-half r of one model with the others, {label}, validation users",
                "valid",
                found.reliability(resamples, seed),
                unit=CORRELATION,
            ),
            link(
                BEST_OF_N,
                f"best_of_n_{name}_valid",
                f"The best of N {label} of one model, valued by the others, validation users",
                "valid",
                found.gain(resamples, seed),
                unit=POINTS,
            ),
        ]
    return links
