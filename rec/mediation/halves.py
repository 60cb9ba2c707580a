"""Split-half figures: does what a text is worth on one half of a user's lists hold on the other?

A text's score is its NDCG@5 on each of two halves of the user's lists. What the halves share is
the text's worth, what they do not is noise; a text that was picked on one half is valued on the
other, so that luck in the picking does not count. The texts are a user's own responses, or texts
of several users (the swap test).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rec.mediation.resampling import Estimate, Floats, Statistic, estimate, mean_of, ratio_of
from rec.rerank.features import Features
from rec.rerank.ranking import Judged

Integers = npt.NDArray[np.int64]

TURNS = 20  # of removing means of texts and of users


@dataclass(frozen=True)
class Halves:
    """T texts, each judged on both halves of one user's lists; sorted by user, text."""

    owners: Integers  # [T] the user whose lists they are
    texts: Integers  # [T] the row of the text in Knowledge
    ndcg: Floats  # [T, 2]
    log_likelihood: Floats  # [T, 2]

    @property
    def groups(self) -> list[slice]:
        """The places of each user's texts, of users with several."""
        return user_groups(self.owners)


def user_groups(owners: Integers) -> list[slice]:
    """The places of each user's texts in a table that is sorted by user, of users with several."""
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    ends = np.append(starts[1:], len(owners))
    return [slice(a, b) for a, b in zip(starts, ends, strict=True) if b - a > 1]


def halves(judged: Judged, features: Features) -> Halves:
    """Mean scores of each text on every other list of the user, and on the rest.

    Lists take turns in the order of their table, which is that of time. Users of one list are left
    out.
    """
    owner = features.list_user.cpu().numpy()[judged.rows]
    lists, place = np.unique(judged.rows, return_inverse=True)
    whose = features.list_user.cpu().numpy()[lists]
    order = np.argsort(whose, kind="stable")
    first = np.searchsorted(whose[order], whose[order])
    turn = np.empty(len(lists), dtype=np.int64)
    turn[order] = np.arange(len(lists)) - first
    texts = int(judged.responses.max(initial=0)) + 1
    units, unit = np.unique(owner * texts + judged.responses, return_inverse=True)
    cell = unit * 2 + turn[place] % 2
    number = np.bincount(cell, minlength=2 * len(units)).reshape(-1, 2)
    both = (number > 0).all(1)

    def means(values: Floats) -> Floats:
        total = np.bincount(cell, weights=values, minlength=2 * len(units)).reshape(-1, 2)
        found: Floats = total[both] / number[both]
        return found

    units = units[both]
    return Halves(units // texts, units % texts, means(judged.ndcg), means(judged.log_likelihood))


def joined(parts: list[Halves]) -> Halves:
    """The halves of different users as one."""
    columns = [
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("owners", "texts", "ndcg", "log_likelihood")
    ]
    order = np.lexsort((columns[1], columns[0]))
    return Halves(*(column[order] for column in columns))


@dataclass(frozen=True)
class Moments:
    """Per user (of U with several texts) what reliability and variances follow from, each [U]."""

    product: Floats  # covariance of a user's texts between the halves
    first: Floats  # variance over a user's texts on the first half
    second: Floats
    mean: Floats  # over the user's texts and both halves
    noise_of_mean: Floats  # the variance of `mean` that comes from a user's few texts

    def reliability(self, resamples: int, seed: int) -> Estimate:
        """Correlation between the halves of scores relative to their user's mean."""
        sums = np.stack([self.product, self.first, self.second], axis=1)
        return estimate(ratio_of(sums, correlation), len(sums), resamples, seed)

    def full_reliability(self, resamples: int, seed: int) -> Estimate:
        """Reliability of the score on all lists, twice as long as a half; 0 to 1.

        Spearman-Brown, 2r / (1 + r) (Spearman 1910 and Brown 1910, British Journal of Psychology
        3). It follows from r being a share of variance: that of the texts' worth, which is 0 or
        more. An r below 0 is one of 0 that noise brought there, and counts as 0, an end of an
        interval too; the formula would make -0.9 of it -18.
        """
        found = self.reliability(resamples, seed)
        value, low, high = (
            None if r is None else 2 * max(r, 0.0) / (1 + max(r, 0.0))
            for r in (found.value, found.low, found.high)
        )
        return Estimate(value, low, high, found.users)

    def shares(self, resamples: int, seed: int) -> tuple[Estimate, Estimate, Estimate]:
        """Shares of the variance of scores on all lists: users, responses of a user, noise.

        Variance components of a one-way layout: that between users holds how hard their lists
        are. They are estimated without bias, so that one near 0 may come out below 0.
        """
        sums = np.stack(
            [
                self.product,
                (self.first + self.second - 2 * self.product) / 4,
                self.mean,
                self.mean**2,
                self.noise_of_mean,
                np.ones(len(self.mean)),
            ],
            axis=1,
        )

        def share(place: int) -> Estimate:
            statistic = ratio_of(sums, lambda totals: components(totals)[place])
            return estimate(statistic, len(sums), resamples, seed)

        return share(0), share(1), share(2)


def correlation(sums: Floats) -> Floats:
    """Product by the root of both squares, [3, B] to [B]; NaN where nothing varies."""
    product, first, second = sums
    spread = np.sqrt(first * second)
    return np.where(spread > 1e-12, product / spread, np.nan)


def components(sums: Floats) -> Floats:
    """Shares of users, responses and noise, [3, B], of the sums [6, B] of `Moments.shares`."""
    product, noise, mean, square, of_mean, number = sums
    responses, noise = product / number, noise / number
    spread = (square / number - (mean / number) ** 2) * number / (number - 1)
    users = spread - of_mean / number
    total = users + responses + noise
    return np.stack([users, responses, noise]) / np.where(total > 1e-12, total, np.nan)


def moments(scores: Floats, groups: list[slice]) -> Moments:
    """Moments of `scores` [T, 2] of the users at `groups`."""
    rows = []
    for group in groups:
        own = scores[group]
        (first, product), (_, second) = np.cov(own.T)
        of_mean = (first + second + 2 * product) / 4 / len(own)
        rows.append((product, first, second, own.mean(), of_mean))
    return Moments(*np.array(rows).reshape(-1, 5).T)


@dataclass(frozen=True)
class Picks:
    """Per user the worth, on the other half, of the texts that were picked on one half, each [U].

    Both directions averaged; texts that tie as best (or worst) count as one of their mean worth.
    """

    best: Floats
    worst: Floats
    mean: Floats  # of all the user's texts

    def gain(self, resamples: int, seed: int) -> Estimate:
        """The best against the mean of all."""
        return _mean(self.best - self.mean, resamples, seed)

    def spread(self, resamples: int, seed: int) -> Estimate:
        """The best against the worst: what a preference pair is worth."""
        return _mean(self.best - self.worst, resamples, seed)


def picks(by: Floats, worth: Floats, groups: list[slice]) -> Picks:
    """Pick by the scores `by` [T, 2] on one half, value by `worth` [T, 2] on the other.

    Two texts, scores (1, .9) and (0, .1): the first is best by either half, and worth .9 on the
    second half and 1 on the first, .95; the worst is worth .05.

    >>> scores = np.array([[1.0, 0.9], [0.0, 0.1]])
    >>> picks(scores, scores, [slice(0, 2)])
    Picks(best=array([0.95]), worst=array([0.05]), mean=array([0.5]))
    """
    rows = []
    for group in groups:
        pick, value = by[group], worth[group][:, ::-1]
        best, worst = (
            float((value * chosen).sum() / 2)
            for chosen in (_even(pick >= pick.max(0) - 1e-12), _even(pick <= pick.min(0) + 1e-12))
        )
        rows.append((best, worst, float(value.mean())))
    return Picks(*np.array(rows).reshape(-1, 3).T)


def _even(chosen: npt.NDArray[np.bool_]) -> Floats:
    """Equal weights of those chosen in each column."""
    weights: Floats = chosen / chosen.sum(0)
    return weights


def against_others(found: Halves, own: Integers) -> Floats:
    """The worth of a user's own text minus the mean of the other texts, [U], over both halves.

    `own` [users] is the row of each user's own text. Users without it among their texts, or with
    nothing else, are left out.
    """
    differences = []
    for group in found.groups:
        scores = found.ndcg[group].mean(1)
        mine = found.texts[group] == own[found.owners[group.start]]
        if mine.any() and not mine.all():
            differences.append(scores[mine].mean() - scores[~mine].mean())
    return np.array(differences)


def matched(found: Halves) -> Floats:
    """Scores [T, 2] without what a text is worth to everybody and what a user's lists reach.

    What is left of the swap test is whether different users need different texts. Means are removed
    by turns, each half by itself, so that nothing goes from one half to the other.

    >>> owners, texts = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> scores = np.array([[0.5], [0.7], [0.2], [0.4]]) + np.zeros(2)  # text 1 is worth .2 more
    >>> bool(np.allclose(matched(Halves(owners, texts, scores, scores)), 0))
    True
    """
    left = found.ndcg.copy()
    places = [np.unique(n, return_inverse=True)[1] for n in (found.texts, found.owners)]
    for place in places * TURNS:
        count = np.bincount(place)
        for half in left.T:
            half -= (np.bincount(place, weights=half) / count)[place]
    return left


def _mean(values: Floats, resamples: int, seed: int) -> Estimate:
    statistic: Statistic = mean_of(values)
    return estimate(statistic, len(values), resamples, seed)
