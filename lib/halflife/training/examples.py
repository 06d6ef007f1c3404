"""User histories sliced into training batches, in NumPy.

An example is a user and a cut time: what happened before the cut is input, what follows within the horizon is
target. Nothing at or after the cut enters the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from halflife.decay import SECONDS_PER_DAY
from halflife.histories.sequences import FEATURES
from halflife.model.batch import Floats, Indexes
from halflife.model.features import (
    event_features_of_sequences,
    sequence_features,
)

Times = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]

# The columns of `sequences` are what training reads, in the same types.
COLUMNS: Final = FEATURES


@dataclass(frozen=True)
class History:
    """One user's events, oldest first: `columns` holds COLUMNS as (n,) arrays, what is read of them follows."""

    columns: Columns
    user: int = -1  # its index, where that is known

    def __len__(self) -> int:
        return len(self.seconds)

    def before(self, seconds: float) -> History:
        """The events before an instant."""
        known = int(np.searchsorted(self.seconds, seconds, side="left"))
        return self if known == len(self) else History({n: c[:known] for n, c in self.columns.items()}, self.user)

    @property
    def seconds(self) -> Times:
        """Epoch seconds, ascending."""
        return self.columns["event_seconds"]

    @property
    def item(self) -> Indexes:
        """Item indexes."""
        return self.columns["item_index"]

    @property
    def type(self) -> Indexes:
        """Event types by their number."""
        return self.columns["type_index"]

    @property
    def strength(self) -> Floats:
        """Signed strengths."""
        return self.columns["strength"]

    @property
    def first_visit(self) -> NDArray[np.bool_]:
        """Whether an event is the user's first on its item."""
        return np.asarray(self.columns["revisit_count"] == 0)

    @property
    def session_start(self) -> NDArray[np.bool_]:
        """Whether an event is the first of its session."""
        return np.asarray(self.columns["session_position"] == 0)

    @cached_property
    def jump_features(self) -> Floats:
        """What the jump sees of each event, (n, EVENT_FEATURES)."""
        return event_features_of_sequences(self.columns)

    @cached_property
    def sequence_features(self) -> Floats:
        """What the encoder sees of each event, (n, SEQUENCE_FEATURES)."""
        return sequence_features(self.columns)


def history_of(row: Mapping[str, Any], before_seconds: float) -> History:
    """One row of the training table (`schemas.TRAINING`), cut to the events before `before_seconds`."""
    columns = {name: np.frombuffer(row[name], dtype=kind) for name, kind in COLUMNS.items()}
    return History(columns, int(row.get("user_index", -1))).before(before_seconds)


def random_cuts(
    history: History, count: int, first: float, last: float, recency_days: float, rng: np.random.Generator
) -> Times:
    """`count` random times in [first, last], none before the user's first event; empty where that leaves nothing.

    They thin out by half every `recency_days` back from `last`, and do not look where sessions start: a nightly
    score is asked for whether the user comes or not, and with cuts at session starts it came out 1.7 times
    too high (Complete Journey), the ranking being the same.
    """
    if not len(history):
        return np.empty(0)
    start = max(first, float(history.seconds[0]) + 1.0)
    if start >= last:
        return np.empty(0)
    scale = recency_days * SECONDS_PER_DAY
    oldest = np.exp2(-(last - start) / scale)
    # The inverse of the distribution function of an exponential cut off at `start`.
    return np.asarray(last + scale * np.log2(oldest + rng.random(count) * (1 - oldest)))


def pace(history: History, known: NDArray[Any], first: NDArray[Any] | int = 0) -> Floats:
    """How fast a user lives, from `known` (C,) events, at least 1, from the `first` on: (C, PACE_FEATURES) of about 1.

    The share of returns to an item and their mean silence, the mean gap between sessions, and how much there is. Means
    are of ln(1 + days): what a half-life of this user could be.
    """
    again, start = ~history.first_visit, history.session_start
    silence, gap = (log_days(history.columns[name]) for name in ("revisit_gap_log", "gap_log"))
    sums = np.cumsum(np.stack([again, silence * again, start, gap * start], axis=1), axis=0)
    sums = np.concatenate([np.zeros((1, 4)), sums])
    returns, silences, sessions, gaps = (sums[first + known] - sums[first]).T
    columns = [
        returns / known,
        silences / np.maximum(returns, 1) / 3,
        gaps / np.maximum(sessions, 1),
        np.log1p(known) / 5,
    ]
    numbers: Floats = np.stack(columns, axis=1).astype(np.float32)
    return numbers


def log_days(log_seconds: NDArray[np.float32]) -> NDArray[np.float64]:
    """ln(1 + days) from ln(1 + seconds)."""
    return np.asarray(np.log1p(np.expm1(log_seconds.astype(np.float64)) / SECONDS_PER_DAY))


def session_log_sizes(history: History) -> NDArray[np.float64]:
    """Logarithm of the number of events in each event's session: (n,)."""
    session = np.cumsum(history.session_start)
    return np.asarray(np.log(np.bincount(session)[session]))


def next_session(history: History, after: float, before: float) -> tuple[float, Indexes] | None:
    """Time and items of the user's first session that starts in [after, before); None without one or without a past.

    Items that it only cancels or skips are none of them, as in the targets; nothing from `before` on is seen.
    """
    history = history.before(before)
    starts = np.flatnonzero(history.session_start & (history.seconds >= after))
    if not len(starts) or not starts[0]:
        return None
    session = slice(starts[0], starts[1] if len(starts) > 1 else len(history))
    items = np.unique(history.item[session][history.strength[session] > 0])
    return (float(history.seconds[starts[0]]), items) if len(items) else None
