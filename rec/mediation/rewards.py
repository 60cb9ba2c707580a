"""The links that the reward models tell: sensitivity, reliability, best of N, fresh responses."""

from __future__ import annotations

from functools import partial

import polars as pl

from rec.mediation.halves import Halves, Integers, against_others, matched, moments, picks
from rec.mediation.links import (
    BEST_OF_N,
    CORRELATION,
    FRESH_REWARD,
    POINTS,
    RELIABILITY,
    SENSITIVITY,
    SHARE,
    Link,
    link,
)
from rec.mediation.resampling import estimate, mean_of
from rec.mediation.texts import SPLITS
from rec.tables import ALL_FOLDS


def swap_links(found: Halves, own: Integers, resamples: int, seed: int) -> list[Link]:
    """The swap test: users' lists with texts of different users, one of them their own.

    `own` [users] is the row of each user's own text. A reward that does not change with the text
    can tell nothing about responses. Texts may be better or worse for everybody; `swap_match` says
    whether different users need different ones, `swap_own` whether a text knows its own user.
    """
    groups = found.groups
    ndcg = found.ndcg
    chosen = picks(ndcg, ndcg, groups)
    better = against_others(found, own)
    match = moments(matched(found), groups)
    make = partial(link, SENSITIVITY)
    return [
        make(
            "swap_reliability",
            "Split-half r of the differences between texts of different users",
            "train",
            moments(ndcg, groups).reliability(resamples, seed),
            unit=CORRELATION,
            chain=True,
        ),
        make(
            "swap_match",
            "The same without what a text is worth to everybody",
            "train",
            match.reliability(resamples, seed),
            unit=CORRELATION,
        ),
        make(
            "swap_own",
            "The user's own text minus the mean of other users'",
            "train",
            estimate(mean_of(better), len(better), resamples, seed),
            unit=POINTS,
        ),
        make(
            "swap_best",
            "The best text on one half minus the mean, on the other half",
            "train",
            chosen.gain(resamples, seed),
            unit=POINTS,
        ),
        make(
            "swap_spread",
            "The best text on one half minus the worst, on the other half",
            "train",
            chosen.spread(resamples, seed),
            unit=POINTS,
        ),
    ]


def response_links(found: Halves, split: str, resamples: int, seed: int) -> list[Link]:
    """The N responses of the same user: how reliable their scores are, and what the best gains."""
    groups = found.groups
    return [
        *_reliability_links(found, groups, split, resamples, seed),
        *_best_links(found, groups, split, resamples, seed),
    ]


def _reliability_links(
    found: Halves, groups: list[slice], split: str, resamples: int, seed: int
) -> list[Link]:
    ndcg = moments(found.ndcg, groups)
    finer = moments(found.log_likelihood, groups)
    figures = [
        (
            "reliability",
            "Split-half r among responses of a user",
            ndcg.reliability(resamples, seed),
            CORRELATION,
        ),
        (
            "full_reliability",
            "The same for the score on all lists (Spearman-Brown)",
            ndcg.full_reliability(resamples, seed),
            CORRELATION,
        ),
        (
            "log_likelihood_reliability",
            "Split-half r of the labels' log-likelihood",
            finer.reliability(resamples, seed),
            CORRELATION,
        ),
    ]
    names = (
        ("variance_users", "Variance of scores: between users"),
        ("variance_responses", "Variance of scores: between responses of a user"),
        ("variance_noise", "Variance of scores: noise"),
    )
    shares = ndcg.shares(resamples, seed)
    figures += [(*name, share, SHARE) for name, share in zip(names, shares, strict=True)]
    return [
        link(
            RELIABILITY,
            f"{name}_{split}",
            f"{label}, {SPLITS[split]}",
            split,
            figure,
            unit=unit,
            chain=name == "reliability" and split == "train",
        )
        for name, label, figure, unit in figures
    ]


def _best_links(
    found: Halves, groups: list[slice], split: str, resamples: int, seed: int
) -> list[Link]:
    by_reward = picks(found.ndcg, found.ndcg, groups)
    by_finer = picks(found.log_likelihood, found.ndcg, groups)
    figures = [
        ("best_of_n", "The best of N minus the mean, on the other half", by_reward.gain),
        ("best_worst", "The best of N minus the worst, on the other half", by_reward.spread),
        ("best_by_log_likelihood", "The best by log-likelihood minus the mean", by_finer.gain),
    ]
    return [
        link(
            BEST_OF_N,
            f"{name}_{split}",
            f"{label}, {SPLITS[split]}",
            split,
            figure(resamples, seed),
            unit=POINTS,
            chain=name == "best_of_n" and split == "train",
        )
        for name, label, figure in figures
    ]


def fresh_links(
    before: pl.DataFrame,
    after: pl.DataFrame,
    splits: pl.DataFrame,
    resamples: int,
    seed: int,
) -> list[Link]:
    """Mean reward of a policy's fresh responses minus that of the policy before, by user.

    `before` and `after` are SCORES of the same reward models; `splits` has user and split. No
    pair of a validation user was trained on, and no model that scores a train user saw that user.
    The models learned from responses of the policy before: those of the policy after may be a
    little strange to them. They stopped early at the epoch that was best on the validation users
    with sample 0 of the policy before: sample 0 of validation users does not count where there are
    others, neither before nor after.
    """
    selected = (pl.col("fold") == ALL_FOLDS) & (pl.col("sample") == 0)
    counts = ~selected | (pl.len().over("user") == 1)
    means = [
        table.filter(counts).group_by("user").agg(pl.col("ndcg@5").mean().alias(name))
        for table, name in ((before, "before"), (after, "after"))
    ]
    paired = means[0].join(means[1], on="user").join(splits, on="user").sort("user")
    links = []
    for split in ("valid", "train"):
        own = paired.filter(pl.col("split") == split)
        gains = (own["after"] - own["before"]).to_numpy()
        links.append(
            link(
                FRESH_REWARD,
                f"fresh_reward_{split}",
                f"Reward of fresh responses minus that of the policy before, {SPLITS[split]}",
                split,
                estimate(mean_of(gains), len(gains), resamples, seed),
                unit=POINTS,
                chain=split == "valid",
            )
        )
    return links
