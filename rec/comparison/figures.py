"""What a run came to as numbers: all of them, and the few that experiments are compared by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from rec.comparison.cells import cells_of
from rec.comparison.names import last_round, round_number, slug
from rec.comparison.power import Power
from rec.comparison.result import Comparison, Difference
from rec.config import BASE_NAME, FINE_TUNED
from rec.distributions import rounded
from rec.errors import RecError
from rec.outcomes import HeldOut, Outcome
from rec.rerank.metrics import NAMES

Policies = Mapping[str, Mapping[str, float]]  # figures by policy
Metrics = dict[str, Any]

#: Of `rec.health.sampling_health`: shares of responses, and means per response.
HEALTH = ("cut_off", "cut_slots", "looping", "empty", "mean_tokens")
#: Variants whose value is in metrics.json, besides the policies.
BARS = ("none", "history", BASE_NAME)
#: Metrics that the comparison has intervals of, and what the ends are called.
ENDS = {"ndcg@5": ("low", "high"), "map@5": ("map@5_low", "map@5_high")}
#: All others are means alone.
MEANS = [name for name in NAMES if name not in ENDS]


def figures(
    comparison: Comparison,
    users: pl.DataFrame,
    identifiability: Policies,
    sampling: Policies,
    alignments: Mapping[str, Outcome],
) -> Metrics:
    """All numbers of a run but those of single users (data/comparison/figures.json).

    For each protocol and variant (by slug) NDCG@5 and MAP@5 with their intervals, and the other
    metrics at every scope; the comparisons of the primary family; what the users can show
    (`power`); how well each policy's texts tell users apart, and how sound they are; what each
    alignment came to; and what the numbers rest on. `users` are the metrics of single users that
    the comparison was made from (table USER_METRICS).
    """
    return {
        **{protocol: _values(comparison, users, protocol) for protocol in comparison.protocols},
        "comparisons": {
            f"{d.of}_vs_{d.to}": _difference(d) for d in comparison.primary.comparisons
        },
        "power": {} if comparison.power is None else _power(comparison.power),
        "identifiability": _identifiability(identifiability),
        "sampling": _sampling(sampling),
        "alignment": {slug(policy): _alignment(found) for policy, found in alignments.items()},
        "test_users": comparison.test_users,
        "test_lists": comparison.test_lists,
        "backbones": len(comparison.backbones),
        "seeds": len(comparison.seeds),
        "bootstrap": comparison.bootstrap,
        "permutations": comparison.permutations,
    }


def metrics(comparison: Comparison, found: Metrics) -> Metrics:
    """The few of `figures` that `dvc metrics` and `dvc exp show` list (metrics.json).

    NDCG@5 on the main protocol; what the last round gains over the base LLM, in points, with its
    interval and corrected p; and by policy how well texts tell users apart (mrr), which share of
    them repeats itself (degenerate), how far the LLM went (kl, nats per token), and which share of
    held-out pairs it came to agree with. Names are the same with any number of rounds.
    """
    values = found[comparison.protocols[0]]
    chosen = [name for name in values if name in (*BARS, *FINE_TUNED) or round_number(name)]
    aligned = found["alignment"]
    held_out = {name: one["held_out"].get("reward_accuracy") for name, one in aligned.items()}
    table: Metrics = {
        "ndcg@5": {name: values[name]["ndcg@5"] for name in chosen},
        "gain": _gain(comparison),
        "mrr": {k: v["mrr"] for k, v in found["identifiability"].items() if k != "chance"},
        "degenerate": {name: one["looping"] for name, one in found["sampling"].items()},
        "kl": {name: one["kl_per_token"] for name, one in aligned.items()},
        "held_out_accuracy": {name: one for name, one in held_out.items() if one is not None},
    }
    return {name: one for name, one in table.items() if one}


def _gain(comparison: Comparison) -> Metrics:
    last = last_round(comparison.variants)
    found = None if last is None else comparison.primary.comparison(last, BASE_NAME)
    if found is None:
        return {}
    ends = found.estimate
    points = {"points": ends.value, "low": ends.low, "high": ends.high}
    return {**{name: rounded(100 * value) for name, value in points.items()}, "p": found.p_holm}


def _values(comparison: Comparison, users: pl.DataFrame, protocol: str) -> Metrics:
    found: Metrics = {name: {} for name in comparison.variants}
    for measure, (low, high) in ENDS.items():
        for name, one in comparison.family(protocol, measure).values.items():
            found[name] |= {measure: one.value, low: one.low, high: one.high}
    chosen = users.filter(pl.col("split") == "test", pl.col("protocol") == protocol)
    for measure, values in cells_of(chosen, MEANS).items():
        levels = values.table().mean(axis=(0, 1))
        for name, level in zip(values.variants, levels, strict=True):
            found[name][measure] = rounded(level)
    return found


def _difference(found: Difference) -> Metrics:
    return {
        "difference": found.estimate.value,
        "low": found.estimate.low,
        "high": found.estimate.high,
        "p_holm": found.p_holm,
        "significant": found.significant,
    }


def _power(found: Power) -> Metrics:
    return {
        "sought": found.sought,
        "users_needed": found.users_needed,
        "detectable": found.detectable,
    }


def _identifiability(policies: Policies) -> Metrics:
    table: Metrics = {}
    for policy, values in policies.items():
        try:
            chance = {"mrr": rounded(values["chance_mrr"])}
            row = {key: rounded(values[key]) for key in ("mrr", "median_rank", "cut")}
        except (KeyError, TypeError, ValueError) as error:
            raise RecError(
                f"identifiability of policy {policy}: needs the numbers mrr, median_rank, cut "
                f"and chance_mrr ({error})"
            ) from error
        table.setdefault("chance", chance)
        table[slug(policy)] = row
    return table


def _sampling(policies: Policies) -> Metrics:
    table: Metrics = {}
    for policy, values in policies.items():
        try:
            table[slug(policy)] = {key: rounded(values[key]) for key in HEALTH}
        except (KeyError, TypeError, ValueError) as error:
            needed = ", ".join(HEALTH)
            raise RecError(
                f"sampling of policy {policy}: needs the numbers {needed} ({error})"
            ) from error
    return table


def _alignment(outcome: Outcome) -> Metrics:
    return {
        "steps": outcome.steps,
        "margin_nats": rounded(outcome.margin),
        "reward_accuracy": rounded(outcome.accuracy),
        "chosen_log_ratio_per_token": rounded(outcome.chosen_log_ratio),
        "rejected_log_ratio_per_token": rounded(outcome.rejected_log_ratio),
        "kl_per_token": rounded(outcome.kl),
        "likelihood_displacement": outcome.displaced,
        "held_out": {"pairs": 0} if outcome.held_out is None else _held_out(outcome.held_out),
    }


def _held_out(found: HeldOut) -> Metrics:
    return {
        "pairs": found.pairs,
        "likelihood_accuracy_before": rounded(found.before.value),
        "likelihood_accuracy_after": rounded(found.after.value),
        "reward_accuracy": rounded(found.reward.value),
        "reward_accuracy_low": rounded(found.reward.low),
        "reward_accuracy_high": rounded(found.reward.high),
    }
