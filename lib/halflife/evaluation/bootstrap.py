"""Confidence intervals of means over users, from sums by bucket: nothing here grows with the users.

Users fall into buckets by a hash. A bucket is drawn as a whole, so the intervals are those of a bootstrap over users
where each has a bucket of its own, and those of one over random groups of users where they share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOW, HIGH = 0.025, 0.975
SEED: Final = 20171201


@dataclass(frozen=True)
class Means:
    """Means over users (m,) with their standard errors and 95 % intervals, and the replicates (R, m) behind these."""

    value: Floats
    standard_error: Floats
    low: Floats
    high: Floats
    replicates: Floats

    def minus(self, other: Means, standard_error: Floats) -> Means:
        """The paired difference: both drew the same users."""
        return _means(self.value - other.value, standard_error, self.replicates - other.replicates)


def means(sums: Floats, users: Floats, replicates: int) -> Means:
    """Means of values whose `sums` by bucket are (buckets, m), over `users` (buckets,), by the Poisson bootstrap.

    Each bucket counts Poisson(1) times in a replicate (Chamandy et al., 2012), the same in every call with as many
    buckets, so that two means over the same users are paired.
    """
    counts = drawn(replicates, users.size)
    drawn_users = (counts @ users)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(drawn_users > 0, counts @ sums / drawn_users, np.nan)
    return _means(sums.sum(axis=0) / users.sum(), standard_error(sums, users), found)


@cache
def drawn(replicates: int, buckets: int) -> Floats:
    """How often each bucket counts in each replicate."""
    return np.random.default_rng(SEED).poisson(1.0, (replicates, buckets)).astype(np.float64)


def standard_error(sums: Floats, users: Floats) -> Floats:
    """Standard error (m,) of the means: of users where each has its bucket, else of random groups. NaN below two."""
    occupied = users > 0
    buckets = int(occupied.sum())
    if buckets < 2:
        return np.full(sums.shape[1], np.nan)
    total = users.sum()
    residual = sums[occupied] - users[occupied, None] * (sums.sum(axis=0) / total)
    error: Floats = np.sqrt((residual**2).sum(axis=0) * buckets / (buckets - 1)) / total
    return error


def _means(value: Floats, error: Floats, replicates: Floats) -> Means:
    if np.isnan(error).all():
        return Means(value, error, error, error, replicates)
    low, high = np.nanquantile(replicates, [LOW, HIGH], axis=0)
    return Means(value, error, low, high, replicates)
