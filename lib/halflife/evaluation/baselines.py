"""The simple predictors that a model must beat, in NumPy: popularity, recency, personal and decayed frequency.

Columns are the kept items, the most popular first (`protocol.Catalogue`). Each ranker gives the best columns of
one user. They touch only the user's own history: what a user never bought is in popularity order already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from halflife.decay import decay

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# The share of popularity in a personal score: items that a user never bought follow in popularity order, and
# so do those whose decayed count has sunk below it. At a half-life of 7 days that is after 140 days without
# a purchase (Complete Journey: recall@10 .1317 with it, .1341 with none); from 30 days on it changes nothing.
POPULARITY_BACKOFF: Final = 1e-6


@dataclass(frozen=True)
class History:
    """One user's rows before the cut, oldest first: of each its column, its age in days at the cut, and the number of
    its session, from 0 for the oldest."""

    columns: Integers
    age_days: Floats
    sessions: Integers

    @property
    def session_count(self) -> int:
        """How many sessions there were."""
        return int(self.sessions.max(initial=-1)) + 1


@dataclass(frozen=True)
class Block:
    """What is known at the cut of B users: users (B,), a history of each, and by name what was fitted to each, if
    anything (a row of factors, say)."""

    users: Integers
    histories: Sequence[History]
    fitted: Mapping[str, Sequence[Floats | None]] = field(default_factory=dict)


class Ranker(Protocol):
    """The best columns of each user of a block. It runs in Spark's Python workers, so it must survive cloudpickle."""

    def __call__(self, block: Block) -> Integers:
        """Columns (B, count), best first."""
        ...


@dataclass(frozen=True)
class Personal:
    """A ranker that looks at one user's own history only."""

    rank: Callable[[History], Integers]

    def __call__(self, block: Block) -> Integers:
        """Columns (B, count), best first."""
        return np.stack([self.rank(history) for history in block.histories])


def popularity(column_count: int, count: int) -> Integers:
    """The `count` most popular columns: columns are in that order."""
    return np.arange(min(count, column_count), dtype=np.int64)


def recency(history: History, popularity_share: Floats, count: int) -> Integers:
    """The columns that the user bought last, then the others by popularity; ties in column order."""
    bought, last = np.unique(history.columns[::-1], return_index=True)
    youngest = history.age_days[::-1][last]
    # Ranks, not ages: the oldest counts 1, more than any popularity.
    rank = np.unique(-youngest, return_inverse=True)[1] + 1.0
    return _ranked(bought, rank, popularity_share, count)


def frequency(history: History, popularity_share: Floats, count: int) -> Integers:
    """The columns that the user bought most often, each purchase counting alike."""
    return _ranked(history.columns, np.ones(history.columns.size), popularity_share, count)


def decayed_frequency(history: History, half_life_days: float, popularity_share: Floats, count: int) -> Integers:
    """The columns that the user bought most often of late: a purchase counts 2^(-age / half-life)."""
    weights = decay(history.age_days, [half_life_days])[:, 0]
    return _ranked(history.columns, weights, popularity_share, count)


def _ranked(columns: Integers, weights: Floats, popularity_share: Floats, count: int) -> Integers:
    """The best columns by summed weight plus a share of popularity; ties in column order.

    `popularity_share` (n,) is each column's popularity over the largest, so it never rises along the columns:
    of the columns without history, only the first `count` can be among the best.
    """
    bought, place = np.unique(columns, return_inverse=True)
    first = np.arange(min(count + bought.size, popularity_share.size), dtype=np.int64)
    fill = np.setdiff1d(first, bought, assume_unique=True)[:count]
    candidates = np.concatenate([bought, fill])
    scores = POPULARITY_BACKOFF * popularity_share[candidates]
    scores[: bought.size] += np.bincount(place, weights=weights, minlength=bought.size)
    best: Integers = candidates[np.lexsort((candidates, -scores))[:count]]
    return best
