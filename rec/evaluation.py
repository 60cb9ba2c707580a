"""The final comparison: from per-list test metrics to values with intervals.

The unit is the user. A user's value is the mean over the user's lists and then over the seeds; a
variant's value is the mean over the test users. Users are resampled, lists and seeds are not: an
interval says how much the value would move with other users of the same kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from rec.config import BASELINES, UNTRAINED
from rec.errors import RecError
from rec.outcomes import HeldOut, Outcome

Array = npt.NDArray[np.float64]
Runs = Mapping[str, pl.DataFrame]
Policies = Mapping[int, Mapping[str, float]]  # figures by policy
Metrics = dict[str, Any]

MEASURES = ("ndcg@5", "map@5")
BASE = "0"
NONE = "none"
POPULARITY = "popularity"
SHOWN = "shown"
#: The baselines of lists that nobody was shown.
CONTROLS = tuple(name for name in BASELINES if name != SHOWN)
#: Of `rec.health.sampling_health`: shares of responses, and means per response.
HEALTH = ("cut_off", "cut_slots", "looping", "empty", "mean_tokens")
DIGITS = 6
CHUNK = 256  # resamples held in memory at once


def variants(policies: Sequence[int], baselines: Sequence[str] = CONTROLS) -> list[str]:
    """All variants of the comparison in their order: the baselines, then the policies."""
    return [*sorted(baselines, key=BASELINES.index), *map(str, sorted(policies))]


def slug(variant: str) -> str:
    """The name of a variant in metrics.json: a baseline's own, or base, round_1, round_2..."""
    if variant in BASELINES:
        return variant
    if not (variant.isascii() and variant.isdigit()):
        known = ", ".join(BASELINES)
        raise RecError(f"runs: variant {variant!r} is unknown; use {known} or a policy's number")
    return "base" if variant == BASE else f"round_{int(variant)}"


def bootstrap_interval(values: Array, resamples: int, seed: int) -> Array:
    """95% percentile interval of each column's mean over users.

    `values` is [users, columns]; the result is [2, columns], lower ends first. Every column meets
    the same resamples of users, drawn with replacement.

    By hand: with two users worth 0 and 1 a resample's mean is 0, 0.5 or 1 with probability 1/4,
    1/2 and 1/4, so that the interval is [0, 1]. With users all worth c it is [c, c].
    """
    users = len(values)
    mean = values.mean(axis=0)
    centred = values - mean
    generator = np.random.default_rng(seed)
    shares = np.full(users, 1 / users)
    means = [
        generator.multinomial(users, shares, size=min(CHUNK, resamples - start)) @ centred / users
        for start in range(0, resamples, CHUNK)
    ]
    ends: Array = np.quantile(np.concatenate(means), [0.025, 0.975], axis=0)
    ends += mean
    return ends


def user_means(runs: Runs) -> tuple[list[str], dict[str, Array]]:
    """The users in order, and for each variant their values: [users, measures].

    By hand: one user, seed 1 with lists worth 0 and 1, seed 2 with lists worth 1 and 1: the seeds'
    means are 0.5 and 1, the user's value is 0.75.

    Raises RecError where the variants do not cover the same lists, users and seeds.
    """
    check_runs(runs)
    users: list[str] = []
    means: dict[str, Array] = {}
    for variant, table in runs.items():
        per_user = (
            table.sort("user", "seed", "list")
            .group_by("user", "seed", maintain_order=True)
            .agg(pl.col(*MEASURES).mean())
            .group_by("user", maintain_order=True)
            .agg(pl.col(*MEASURES).mean())
            .sort("user")
        )
        users = per_user["user"].to_list()
        means[variant] = per_user.select(MEASURES).to_numpy()
    return users, means


def check_runs(runs: Runs) -> None:
    """Raise RecError, naming the variant, where a table is broken or covers less than another.

    All variants hold the same lists of the same users. All hold the same seeds, except those of
    `UNTRAINED`, which have seed 0 alone.
    """
    for variant in (NONE, BASE):
        if variant not in runs:
            raise RecError(f"runs: variant {variant!r} is missing; the others are compared with it")
    owners: dict[str, str] = {}
    for variant, table in runs.items():
        slug(variant)
        _check_values(variant, table)
        for name, user in table.select("list", "user").unique().sort("list", "user").iter_rows():
            if owners.setdefault(name, user) != user:
                raise RecError(
                    f"runs of variant {variant!r}: list {name!r} belongs to user {user!r}; "
                    f"elsewhere it belongs to {owners[name]!r}"
                )
    if len(set(owners.values())) < 2:
        raise RecError(f"runs: {len(set(owners.values()))} test users; an interval needs 2 or more")
    seeds = {s for v, table in runs.items() if v not in UNTRAINED for s in table["seed"].unique()}
    for variant, table in runs.items():
        _check_cover(variant, table, {0} if variant in UNTRAINED else seeds, set(owners))


def _check_values(variant: str, table: pl.DataFrame) -> None:
    other = table.filter(pl.col("variant").ne_missing(variant))
    if len(other):
        found = other["variant"][0]
        raise RecError(f"runs of variant {variant!r}: a row belongs to variant {found!r}")
    for measure in MEASURES:
        good = pl.col(measure).is_between(0, 1) & pl.col(measure).is_not_nan()
        bad = table.filter(~good.fill_null(False))
        if len(bad):
            raise RecError(
                f"runs of variant {variant!r}: {measure} of list {bad['list'][0]!r} is "
                f"{bad[measure][0]}; it must lie in 0 to 1"
            )
    twice = table.filter(table.select("seed", "list").is_duplicated())
    if len(twice):
        row = twice.row(0, named=True)
        raise RecError(
            f"runs of variant {variant!r}: list {row['list']!r} with seed {row['seed']} "
            "stands twice; one row is allowed"
        )


def _check_cover(variant: str, table: pl.DataFrame, seeds: set[int], lists: set[str]) -> None:
    found = set(table["seed"].unique())
    if found != seeds:
        raise RecError(
            f"runs of variant {variant!r}: seeds are {sorted(found)}; they must be {sorted(seeds)}"
        )
    for seed in sorted(seeds):
        absent = lists - set(table.filter(pl.col("seed") == seed)["list"])
        if absent:
            raise RecError(
                f"runs of variant {variant!r}: list {min(absent)!r} is missing with seed {seed}; "
                "every variant and seed must cover the same lists"
            )


def evaluate(
    runs: Runs,
    identifiability: Policies,
    sampling: Policies,
    alignments: Mapping[int, Outcome],
    resamples: int,
    seed: int,
) -> Metrics:
    """The content of metrics.json.

    For each variant (`slug`) the values with their intervals; the paired difference to the base
    LLM (`ndcg@5_vs_base`), and of each LLM to no knowledge (`ndcg@5_vs_none`); how well each
    policy's texts tell users apart, and how sound they are; what each round of alignment came to;
    and what the numbers rest on. A difference is significant where its interval excludes 0. Numbers
    are rounded to six digits.
    """
    users, means = user_means(runs)
    order = sorted(runs, key=_rank)
    columns: dict[tuple[str, str], Array] = {}
    for variant in order:
        name = slug(variant)
        for column, measure in enumerate(MEASURES):
            columns[name, measure] = means[variant][:, column]
        if variant != BASE:
            columns[name, "ndcg@5_vs_base"] = means[variant][:, 0] - means[BASE][:, 0]
        if variant not in BASELINES:
            columns[name, "ndcg@5_vs_none"] = means[variant][:, 0] - means[NONE][:, 0]
    values = np.stack(list(columns.values()), axis=1)
    low, high = bootstrap_interval(values, resamples, seed)
    metrics: Metrics = {slug(variant): {} for variant in order}
    for index, (name, key) in enumerate(columns):
        metrics[name] |= {
            key: _rounded(values[:, index].mean()),
            f"{key}_low": _rounded(low[index]),
            f"{key}_high": _rounded(high[index]),
        }
    base = runs[BASE]
    return metrics | {
        "identifiability": _identifiability(identifiability),
        "sampling": _sampling(sampling),
        "alignment": {slug(str(t)): _alignment(alignments[t]) for t in sorted(alignments)},
        "test_users": len(users),
        "test_lists": base["list"].n_unique(),
        "seeds": base["seed"].n_unique(),
        "bootstrap": resamples,
    }


def _rank(variant: str) -> tuple[int, int]:
    if variant in BASELINES:
        return BASELINES.index(variant), 0
    return len(BASELINES), int(variant)


def _rounded(value: float) -> float:
    return round(float(value), DIGITS) + 0.0  # never -0.0


def _identifiability(policies: Policies) -> Metrics:
    table: Metrics = {}
    for policy, values in sorted(policies.items()):
        try:
            chance = {"mrr": _rounded(values["chance_mrr"])}
            row = {key: _rounded(values[key]) for key in ("mrr", "median_rank")}
        except (KeyError, TypeError, ValueError) as error:
            raise RecError(
                f"identifiability of policy {policy}: needs the numbers mrr, median_rank and "
                f"chance_mrr ({error})"
            ) from error
        table.setdefault("chance", chance)
        table[slug(str(policy))] = row
    return table


def _sampling(policies: Policies) -> Metrics:
    table: Metrics = {}
    for policy, values in sorted(policies.items()):
        try:
            table[slug(str(policy))] = {key: _rounded(values[key]) for key in HEALTH}
        except (KeyError, TypeError, ValueError) as error:
            needed = ", ".join(HEALTH)
            raise RecError(
                f"sampling of policy {policy}: needs the numbers {needed} ({error})"
            ) from error
    return table


def _alignment(outcome: Outcome) -> Metrics:
    return {
        "steps": outcome.steps,
        "margin_nats": _rounded(outcome.margin),
        "reward_accuracy": _rounded(outcome.accuracy),
        "chosen_log_ratio_per_token": _rounded(outcome.chosen_log_ratio),
        "rejected_log_ratio_per_token": _rounded(outcome.rejected_log_ratio),
        "kl_per_token": _rounded(outcome.kl),
        "likelihood_displacement": outcome.displaced,
        "held_out": {"pairs": 0} if outcome.held_out is None else _held_out(outcome.held_out),
    }


def _held_out(found: HeldOut) -> Metrics:
    return {
        "pairs": found.pairs,
        "likelihood_accuracy_before": _rounded(found.before.value),
        "likelihood_accuracy_after": _rounded(found.after.value),
        "reward_accuracy": _rounded(found.reward.value),
        "reward_accuracy_low": _rounded(found.reward.low),
        "reward_accuracy_high": _rounded(found.reward.high),
    }
