"""Intervals by a bootstrap over users crossed with seeds.

A value is a mean over users and seeds. Both are samples: other users of the same kind could have
been tested, and other seeds drawn for training. Each resample draws as many users with replacement,
independently as many seeds, and takes the mean over all their combinations. All variants meet the
same resamples, since they rank the lists of the same users and are paired by seed. An interval
holds the middle 95% of the resampled means: how far the value would move with other users and
other seeds. What is not resampled are the lists of a user, the split, the LLM's weights, and the
responses that a policy wrote.

Resampling both ways (the pigeonhole bootstrap, Owen 2007, Annals of Applied Statistics 1) counts
what users and seeds have only in combination up to three times, which makes intervals wide. With
few seeds that differ they are too narrow all the same: the variance over S seeds comes out smaller
by the factor (S - 1) / S, and no percentile of so few makes up for it. The p-values
(`rec.comparison.components`) do. With one seed the interval says nothing about seeds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CHUNK = 256  # resamples held in memory at once
ENDS = (0.025, 0.975)


def resampled_means(values: Array, resamples: int, seed: int) -> Array:
    """Means of `values` [seeds, users, columns] over resampled seeds and users.

    The result is [resamples, columns]. The resamples depend on their number, the numbers of seeds
    and users, and `seed`, not on the columns, so that differences between columns are paired.
    """
    seeds, users, columns = values.shape
    generator = np.random.default_rng(seed)
    centre = values.mean(axis=(0, 1))
    flat = np.moveaxis(values - centre, 1, 0).reshape(users, seeds * columns)
    found = []
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        by_user = generator.multinomial(users, np.full(users, 1 / users), size=size) / users
        by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=size) / seeds
        means = (by_user @ flat).reshape(size, seeds, columns)
        found.append((means * by_seed[:, :, None]).sum(axis=1))
    result: Array = np.concatenate(found) + centre
    return result


def ends(means: Array) -> Array:
    """The 95% percentile interval [2, columns] of resampled means [resamples, columns].

    By hand: with one seed and two users worth 0 and 1 a resample's mean is 0, 0.5 or 1 with
    probability 1/4, 1/2 and 1/4, so that the interval is [0, 1]. With users all worth c it is
    [c, c].
    """
    found: Array = np.quantile(means, ENDS, axis=0)
    return found
