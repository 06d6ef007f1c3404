"""What moved between two nights, and why: decay, new events, another model. The parts add up to the change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow.dataset as ds

from halflife.answers.explain import contributions, read_events
from halflife.answers.night import Places, PublishedNight
from halflife.decay import Floats, probability
from halflife.errors import ConfigError
from halflife.nights import instant
from halflife.scoring import pairs
from halflife.scoring.pairs import Matrix, States

REASONS: Final = ("decay", "new_events", "new_model", "new_item")
BLOCK_PAIRS: Final = 2_000_000  # of users and items whose parts are in memory at once


def of_user(early: PublishedNight, late: PublishedNight, user_id: str) -> pd.DataFrame:
    """Of each item on the `late` night: item_id, title, before, after, and the change by its reasons, which add up.

    decay: what the early states give at the late instant, less what they gave. new_events: what the events between
    the nights, or late ones, changed; where the model is another one, what their memory alone brings by the new one,
    and new_model is the rest. new_item: all of the score of an item that the early night did not have.
    Raises ConfigError where the nights are not in order, UnknownIdError where the late one does not know the user.
    """
    user = late.user(user_id)
    parts = _parts(early, late, user, user, _places_before(early, late), _events_between(early, late, user))
    columns = {name: values[0] for name, values in parts.items()}
    return pd.DataFrame({"item_id": late.items.ids, "title": late.items.titles, **columns})


def totals(early: PublishedNight, late: PublishedNight) -> pd.DataFrame:
    """The expected engagements of all users, the sum of all scores, before and after, and the change by its reasons.

    Block after block of users, so that memory does not grow with users and items; where the model is another one, it
    does with the events between the nights, which are read once for all users.
    """
    old, between = _places_before(early, late), _events_between(early, late)
    sums = dict.fromkeys(("before", "after", *REASONS), 0.0)
    for ids, first in late.users_in_blocks(max(1, BLOCK_PAIRS // max(1, len(old)))):
        known = ids.notna().to_numpy()
        parts = _parts(early, late, first, first + len(ids) - 1, old, between)
        for name in sums:
            sums[name] += float(parts[name][known].sum())
    return pd.DataFrame([sums])


def _places_before(early: PublishedNight, late: PublishedNight) -> Places:
    """Where the early night has each item of the late one, -1 where it has it not."""
    if late.as_of <= early.as_of:
        raise ConfigError(f"{late.as_of} is not after {early.as_of}: name the earlier night first")
    places: Places = early.items.ids.get_indexer(late.items.ids)
    return places


@dataclass(frozen=True)
class _Events:
    """The events (n,) between the nights, by user: user index, place of the item, and strength by the late model."""

    user: Places
    item: Places
    strength: Matrix


def _events_between(early: PublishedNight, late: PublishedNight, user: int | None = None) -> _Events | None:
    """Those of all users, or of one; None where the model is the same: then nobody has to tell them from it.

    Read once: events lie by day, and each day's file has all users.
    """
    if early.model.version == late.model.version:
        return None
    chosen = ds.field("event_time") >= instant(early.as_of)
    events = read_events(late, chosen if user is None else chosen & (ds.field("user_index") == user))
    _, left = contributions(late, events, late.at_seconds)
    users, items = (events[name].to_numpy() for name in ("user_index", "item_index"))
    return _Events(users, late.items.place[items], left.sum(axis=1).astype(np.float32))


def _parts(
    early: PublishedNight, late: PublishedNight, first: int, last: int, old: Places, between: _Events | None
) -> dict[str, Floats]:
    """Scores before and after and the parts of their change, of the users from index `first` to `last`: (B, I) each."""
    after = _score(_expected(late, late.states(first, last), late.at_seconds))
    # A user who came in between has no early states: the popularity.
    states = early.states(first, last)
    steps = [_expected(early, states, at)[:, np.maximum(old, 0)] for at in (early.at_seconds, late.at_seconds)]
    before, faded = (_score(step) for step in steps)
    remembered = after if between is None else _score(_with_events(between, first, last, steps[1]))
    new = old < 0
    return {
        "before": np.where(new, 0.0, before),
        "after": after,
        "decay": np.where(new, 0.0, faded - before),
        "new_events": np.where(new, 0.0, remembered - faded),
        "new_model": np.where(new, 0.0, after - remembered),
        "new_item": np.where(new, after, 0.0),
    }


def _expected(night: PublishedNight, states: States, at_seconds: float) -> Matrix:
    """Expected strength of a block of users for all items of a night, (B, I)."""
    at, side = np.full(len(states.anchor_seconds), at_seconds), night.items.side
    expected = pairs.affinity(states, at, night.half_lives_days, night.horizon_days, side.vectors, side.bias)
    return pairs.add_memory(expected, states, pairs.memory(states, at, night.half_lives_days, night.horizon_days))


def _with_events(between: _Events, first: int, last: int, faded: Matrix) -> Matrix:
    """The early strengths that have `faded` to the late night, with the memory of the events in between."""
    rows = slice(*np.searchsorted(between.user, [first, last + 1]))
    strength = faded.copy()
    np.add.at(strength, (between.user[rows] - first, between.item[rows]), between.strength[rows])
    return np.maximum(strength, np.float32(0))


def _score(expected: Matrix) -> Floats:
    return probability(expected).astype(np.float64)
