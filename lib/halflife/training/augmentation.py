"""Other pasts that a user might have had: histories that begin later, lack events, or came a little later.

Only what an example reads is varied, never its targets: fewer events to foresee would teach scores that are too low.
Sessions move to later times only, so that no event of the time after a cut comes to stand before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from halflife.config import AugmentationConfig
from halflife.training.examples import COLUMNS, History, Times

Chosen = NDArray[np.bool_]


def augmented(history: History, config: AugmentationConfig, rng: np.random.Generator) -> History:
    """A history varied by the rates of `config`: the input of examples whose targets come from `history` itself."""
    if len(history) and config.jitter_seconds:
        history = jittered(history, config.jitter_seconds, rng)
    if len(history) and config.drop:
        history = without(history, rng.random(len(history)) < config.drop)
        # The events that are left stand for all: memory is a sum, and scores would come out too high.
        history = _history(history, strength=history.strength / (1 - config.drop))
    if len(history) and rng.random() < config.crop:
        history = begun_later(history, int(rng.integers(len(history))))
    return history


def jittered(history: History, seconds: float, rng: np.random.Generator) -> History:
    """Each session moved to a time of its own up to `seconds` later, never past the next one; gaps follow.

    Hour and weekday stay what they were: a jitter is meant to be minutes.
    """
    session = _sessions(history)
    starts = np.flatnonzero(np.diff(session, prepend=-1))
    room = np.append(history.seconds[starts[1:]] - history.seconds[starts[1:] - 1], np.inf)
    shift = np.minimum(rng.random(len(starts)) * seconds, room)
    return _retold(history, history.seconds + shift[session], np.ones(len(history), dtype=np.bool_))


def without(history: History, dropped: Chosen) -> History:
    """The history as it would be had the `dropped` events (n,) not happened: gaps, counts and positions follow."""
    return _retold(history, history.seconds, ~dropped)


def begun_later(history: History, first: int) -> History:
    """The history from its event `first` on, as that of a user who has no past before it."""
    late = History({name: column[first:] for name, column in history.columns.items()})
    count = _earlier(late.item, np.ones(len(late), dtype=np.bool_))
    gap, position = late.columns["gap_log"].copy(), late.columns["session_position"].copy()
    gap[0] = 0
    position[_sessions(late) == 0] -= position[0]
    again = late.columns["revisit_gap_log"] * (count > 0)
    return _history(late, gap_log=gap, revisit_gap_log=again, revisit_count=count, session_position=position)


def _retold(history: History, seconds: Times, kept: Chosen) -> History:
    """The `kept` events (n,) at new `seconds` (n,), with what their columns say of earlier events put right.

    What they say of the time before the history's first event, which was cut off, stays true.
    """
    columns = history.columns
    count = columns["revisit_count"] - _earlier(history.item, ~kept)
    # Two sessions of one instant stand among each other and count as one: more may be gone than came before.
    position = np.maximum(columns["session_position"] - _earlier(_sessions(history), ~kept), 0)
    gap = np.expm1(columns["gap_log"][:1].astype(np.float64))
    before = np.where(gap > 0, history.seconds[:1] - gap, seconds[kept][:1])  # no gap: nothing came before
    return _history(
        History({name: column[kept] for name, column in columns.items()}),
        event_seconds=seconds[kept],
        gap_log=np.log1p(np.diff(seconds[kept], prepend=before)),
        revisit_gap_log=np.log1p(seconds - _previous(history, seconds, kept))[kept] * (count[kept] > 0),
        revisit_count=count[kept],
        session_position=position[kept],
    )


def _previous(history: History, seconds: Times, kept: Chosen) -> Times:
    """Time of the last kept event on the same item before each event, (n,); the event's own time where none is known.

    Before the first of an item's events in this history stands the one that its revisit gap tells of.
    """
    silence = np.expm1(history.columns["revisit_gap_log"].astype(np.float64))
    order = np.argsort(history.item, kind="stable")
    place = np.arange(len(order))
    first = np.maximum.accumulate(np.where(np.diff(history.item[order], prepend=-1) != 0, place, 0))
    latest = np.append(-1, np.maximum.accumulate(np.where(kept[order], place, -1))[:-1])
    before = (history.seconds - silence)[order][first]
    previous = np.empty(len(order))
    previous[order] = np.where(latest >= first, seconds[order][latest], before)
    return previous


def _earlier(groups: NDArray[Any], chosen: Chosen) -> NDArray[np.int32]:
    """How many `chosen` events of its group stand before each event: (n,)."""
    order = np.argsort(groups, kind="stable")
    before = np.cumsum(chosen[order]) - chosen[order]
    first = np.diff(groups[order], prepend=-1) != 0
    counts = np.empty(len(order), dtype=np.int32)
    counts[order] = before - before[first][np.cumsum(first) - 1]
    return counts


def _sessions(history: History) -> NDArray[np.int64]:
    """Number of each event's session, from 0."""
    starts = history.session_start.astype(np.int64)
    starts[:1] = 0
    return np.cumsum(starts)


def _history(history: History, **columns: NDArray[Any]) -> History:
    """The history with some of its columns replaced, in the same types."""
    return History({**history.columns, **{name: column.astype(COLUMNS[name]) for name, column in columns.items()}})
