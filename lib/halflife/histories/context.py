"""What the rest of a user's events must know of those before: a few of their rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from halflife.histories.derive import Derived
from halflife.histories.rows import CARRIED, Bools, Integers, Ints, Rows


def open_sessions(derived: Derived) -> Bools:
    """(S,) which sessions may go on in rows to come: the last user's given ones, and the last of the others."""
    found, rows = derived.sessions, derived.rows
    is_open: Bools = rows.user_index[found.last_row] == rows.user_index[-1]
    is_open[: max(found.by_gaps - 1, 0)] = False
    return is_open


def context_of(derived: Derived) -> Rows:
    """The rows that must precede the last user's next: the last of each item, and of each item of an open session.

    The last row of a session carries what the session adds up to, the last row of all how often its event came.
    """
    rows, found, totals = derived.rows, derived.sessions, derived.totals
    begin = int(np.searchsorted(rows.user_index, rows.user_index[-1]))
    item, number = rows.item_index[begin:], found.number[begin:]
    is_open = open_sessions(derived)[number]
    places = np.flatnonzero(_last_of(item) | (is_open & _last_of(item, number)))
    last_of_session = (is_open & _last_of(number))[places]
    kept, session = begin + places, number[places]
    last = np.arange(len(places)) == len(places) - 1
    return replace(
        rows.take(kept),
        role=np.full(len(places), CARRIED, dtype=np.int8),
        session_start=found.start_micros[session],
        session_position=derived.session_position[kept],
        revisit_count=derived.revisit_count[kept],
        session_items=np.where(last_of_session, totals.items[session], 0),
        session_engaged_micros=np.where(last_of_session, totals.engaged_micros[session], 0),
        session_pending=last_of_session & totals.pending[session],
        copies_published=np.where(last, derived.copies.published, 0),
        copies_tonight=np.where(last, derived.copies.tonight, 0),
    )


def _last_of(*keys: Integers) -> Bools:
    """Which rows have no later row with the same keys."""
    order: Ints = np.lexsort(keys)
    last = np.zeros(len(order), dtype=np.bool_)
    last[order[-1:]] = True
    differs = np.zeros(max(len(order) - 1, 0), dtype=np.bool_)
    for key in keys:
        differs |= np.diff(key[order]) != 0
    last[order[:-1]] = differs
    return last
