"""Preference accuracy on pairs of validation users, which no step of the training has seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from rec.align.reference import Scores

Z = 1.959964  # of a two-sided 95% interval


def preference_accuracy(before: Sequence[Scores], after: Sequence[Scores]) -> dict[str, Any]:
    """What alignment changed on held-out pairs, from per-token log-probabilities.

    `likelihood_accuracy`: share of pairs whose chosen response has the higher mean log-probability
    per token, before and after. `reward_accuracy`: share whose chosen response gained more (or lost
    less) log-probability than the rejected one, which is DPO's implicit reward (arXiv 2305.18290,
    section 4) against the policy before; a tie counts half, chance is .5.
    Intervals are 95% (Wilson), as if all pairs were of different users. Log-ratios are of whole
    responses, nats.
    """
    if not before:
        return {"pairs": 0}
    ratios = [
        (sum(chosen) - sum(old_chosen), sum(rejected) - sum(old_rejected))
        for (old_chosen, old_rejected), (chosen, rejected) in zip(before, after, strict=True)
    ]
    margins = [chosen - rejected for chosen, rejected in ratios]
    return {
        "pairs": len(before),
        "likelihood_accuracy_before": _share([_likelier(scores) for scores in before]),
        "likelihood_accuracy_after": _share([_likelier(scores) for scores in after]),
        "reward_accuracy": _share([_hit(margin) for margin in margins]),
        "mean_margin": fmean(margins),
        "median_margin": median(margins),
        "chosen_log_ratio": fmean(chosen for chosen, _ in ratios),
        "rejected_log_ratio": fmean(rejected for _, rejected in ratios),
    }


def _likelier(scores: Scores) -> float:
    chosen, rejected = scores
    return _hit(fmean(chosen or [0.0]) - fmean(rejected or [0.0]))


def _hit(difference: float) -> float:
    return 0.5 if difference == 0 else float(difference > 0)


def _share(hits: Sequence[float]) -> dict[str, float]:
    """A share with its Wilson interval."""
    low, high = wilson(sum(hits), len(hits))
    return {"value": sum(hits) / len(hits), "low": low, "high": high}


def wilson(hits: float, trials: int) -> tuple[float, float]:
    """The 95% interval of a share of `hits` in `trials` (Wilson 1927).

    >>> [round(x, 4) for x in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    share, squared = hits / trials, Z**2
    centre = (share + squared / (2 * trials)) / (1 + squared / trials)
    spread = math.sqrt(share * (1 - share) / trials + squared / (4 * trials**2))
    half = Z * spread / (1 + squared / trials)
    return centre - half, centre + half
