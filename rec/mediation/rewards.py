"""The links that the reward models tell: sensitivity, reliability, best of N, fresh responses."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from rec.mediation.agreement import Opinions, agreement
from rec.mediation.halves import Halves, Integers, against_others, matched, moments, picks
from rec.mediation.links import (
    BEST_OF_N,
    CORRELATION,
    FRESH_REWARD,
    NATS,
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
    can tell nothing about responses. With `reward.text` joint or both a text holds the history,
    and both are swapped: what the reward makes of responses alone is for the links of the
    responses of one user to say. Texts may be better or worse for everybody; `swap_match` says
    whether different users need different ones, `swap_own` whether a text knows its own user.
    Intervals draw users, with the texts that were drawn for each: that a text meets several users
    is not in them.
    """
    groups = found.groups
    ndcg = found.ndcg
    chosen = picks(ndcg, ndcg, groups)
    better = against_others(found, own)
    figures = [
        (
            "reliability",
            "Split-half r of the differences between texts of different users",
            moments(ndcg, groups).reliability(resamples, seed),
            CORRELATION,
        ),
        (
            "match",
            "The same without what a text is worth to everybody",
            moments(matched(found), groups).reliability(resamples, seed),
            CORRELATION,
        ),
        (
            "own",
            "The user's own text minus the mean of other users'",
            estimate(mean_of(better), len(better), resamples, seed),
            POINTS,
        ),
        (
            "best",
            "The best text on one half minus the mean, on the other half",
            chosen.gain(resamples, seed),
            POINTS,
        ),
        (
            "spread",
            "The best text on one half minus the worst, on the other half",
            chosen.spread(resamples, seed),
            POINTS,
        ),
    ]
    deciding = "reliability"
    return [
        link(SENSITIVITY, f"swap_{name}", label, "train", figure, unit=unit, chain=name == deciding)
        for name, label, figure, unit in figures
    ]


#: The measure of pairs (`pairs.measure`) that sees more than ranks.
FINER = "log_likelihood"


def response_links(
    found: Halves, split: str, measure: str, resamples: int, seed: int
) -> list[Link]:
    """The N responses of the same user: how reliable their scores are, and what the best gains.

    The figures by the measure that the pairs are made with decide: by the log-likelihood of the
    labels, or else by NDCG@5 (for MAP@5, too). What the best gains is told in NDCG@5 by both.
    """
    groups = found.groups
    links = [
        *_reliability_links(found, groups, split, resamples, seed),
        *_best_links(found, groups, split, resamples, seed),
    ]
    finer = ("log_likelihood_reliability_train", "best_by_log_likelihood_train")
    deciding = finer if measure == FINER else ("reliability_train", "best_of_n_train")
    return [replace(one, chain=one.name in deciding) for one in links]


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
        )
        for name, label, figure, unit in figures
    ]


def agreement_links(found: Opinions, resamples: int, seed: int) -> list[Link]:
    """Whether the reward models agree about a validation user's responses, on the same lists.

    Beside the reliability of their mean between halves of the lists: is it models that are noisy?
    """
    measures = (
        ("agreement", "Agreement of reward models on the same lists (ICC)", found.ndcg),
        (
            "log_likelihood_agreement",
            "Agreement of reward models by log-likelihood (ICC)",
            found.log_likelihood,
        ),
    )
    return [
        link(
            RELIABILITY,
            f"{name}_valid",
            f"{label}, {SPLITS['valid']}",
            "valid",
            agreement(scores, found.owners, resamples, seed),
            unit=CORRELATION,
        )
        for name, label, scores in measures
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
        )
        for name, label, figure in figures
    ]


def fresh_links(
    before: pl.DataFrame,
    after: pl.DataFrame,
    splits: pl.DataFrame,
    measure: str,
    resamples: int,
    seed: int,
) -> list[Link]:
    """Mean reward of a policy's fresh responses minus that of the policy before, by user.

    `before` and `after` are SCORES of the same reward models; `splits` has user and split. No
    pair of a validation user was trained on, and no model that scores a train user saw that user.
    The models learned from responses of the policy before: those of the policy after may be a
    little strange to them. They stopped early at the epoch that was best on the validation users
    with sample 0 of the policy before: sample 0 of validation users does not count where there are
    others, neither before nor after. Of validation users the reward by the measure of the pairs
    decides (`response_links`).
    """
    selected = (pl.col("fold") == ALL_FOLDS) & (pl.col("sample") == 0)
    counts = ~selected | (pl.len().over("user") == 1)
    means = [
        table.filter(counts).group_by("user").agg(pl.col("ndcg@5", FINER).mean())
        for table in (before, after)
    ]
    paired = means[0].join(means[1], on="user", suffix="_after").join(splits, on="user")
    deciding = FINER if measure == FINER else "ndcg@5"
    return [
        _fresh_link(paired.sort("user"), split, by, by == deciding, resamples, seed)
        for by in ("ndcg@5", FINER)
        for split in ("valid", "train")
    ]


def _fresh_link(
    paired: pl.DataFrame, split: str, by: str, deciding: bool, resamples: int, seed: int
) -> Link:
    own = paired.filter(pl.col("split") == split)
    gains = (own[f"{by}_after"] - own[by]).to_numpy()
    name, label = ("reward", "Reward") if by == "ndcg@5" else (FINER, "Log-likelihood")
    return link(
        FRESH_REWARD,
        f"fresh_{name}_{split}",
        f"{label} of fresh responses minus that of the policy before, {SPLITS[split]}",
        split,
        estimate(mean_of(gains), len(gains), resamples, seed),
        unit=POINTS if by == "ndcg@5" else NATS,
        chain=deciding and split == "valid",
    )
