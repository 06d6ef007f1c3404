"""What the order of a user's events says of each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from halflife.histories import sessions
from halflife.histories.rows import TONIGHT, Bools, Integers, Ints, Rows, Small, changes, counted_on, pair_key
from halflife.histories.sessions import Rules, Sessions, Totals


@dataclass(frozen=True)
class Copies:
    """Which rows are duplicates, and of which event the others are copies."""

    duplicate: Bools
    number: Ints  # 0 of an event's first row, k of its k-th copy
    published: int  # copies of the last row's event that were published
    tonight: int  # and that came tonight, duplicates or not


@dataclass(frozen=True)
class Derived:
    """n rows without duplicates, context among them, and what was found of each."""

    rows: Rows
    copy_number: Ints
    gap_micros: Ints  # to the user's previous event, -1 where there is none
    revisit_gap_micros: Ints  # to the user's previous event with the item, -1 where there is none
    revisit_count: Small
    session_position: Small
    sessions: Sessions
    totals: Totals
    duplicates: Small  # file_index of each duplicate
    copies: Copies


def derive(rows: Rows, rules: Rules) -> Derived:
    """Find duplicates, gaps, revisits and sessions of whole users, or of what follows on context rows.

    `rows` are in the order of the walk. What is found of a user's rows is the same whether they come at once, or
    the later ones behind the context (`context.context_of`) of the earlier.
    """
    copies = _copies(rows)
    duplicates, number = rows.file_index[copies.duplicate], copies.number
    if len(duplicates):
        kept = np.flatnonzero(~copies.duplicate)
        rows, number = rows.take(kept), number[kept]
    gap = np.diff(rows.micros, prepend=0)
    gap[rows.first_of_user] = -1
    previous, revisit_count = _revisits(rows)
    found = sessions.assign(rows, rules)
    position = sessions.positions(rows, found)
    return Derived(
        rows=rows,
        copy_number=number,
        gap_micros=gap,
        revisit_gap_micros=np.where(previous >= 0, rows.micros - rows.micros[previous], -1),
        revisit_count=revisit_count,
        session_position=position,
        sessions=found,
        totals=sessions.totals(rows, found, position, previous, rules),
        duplicates=duplicates,
        copies=copies,
    )


def _copies(rows: Rows) -> Copies:
    """Number the rows of equal events, which are neighbours.

    Where repeats are no real events (repeats 0), the first row stays. Where they are, all stay (1); of a file that
    is read again every night (2) as many of tonight's rows are duplicates as were published.
    """
    same = _same_as_before(rows)
    if not same.any():
        none = np.zeros(len(rows), dtype=np.int64)
        return Copies(same, none, int(rows.copies_published[-1]), int(rows.copies_tonight[-1]))
    event = np.cumsum(~same) - 1
    first = np.flatnonzero(~same)
    published = np.add.reduceat(rows.copies_published, first)
    tonight = np.add.reduceat(rows.copies_tonight, first)
    published_before = _before(rows.copies_published, first, event)
    tonight_before = _before(rows.copies_tonight, first, event)
    reread = (rows.repeats == 2) & (tonight_before < published[event])
    duplicate = (rows.role == TONIGHT) & np.where(rows.repeats == 0, same, reread)
    before = np.where(rows.repeats == 1, published_before + tonight_before, tonight_before)
    number = np.where(rows.role == TONIGHT, before, published_before)
    return Copies(duplicate, number, int(published[-1]), int(tonight[-1]))


def _same_as_before(rows: Rows) -> Bools:
    """Which rows are of the same event as the row before."""
    same = ~(rows.first_of_user | changes(rows.micros) | changes(rows.event_key))
    if same.any():
        places = np.flatnonzero(same)
        ids = rows.passed_on["event_id"].combine_chunks()
        here, before = ids.take(places), ids.take(places - 1)
        equal = pc.fill_null(pc.equal(here, before), False).to_numpy(zero_copy_only=False)
        neither = pc.and_(pc.is_null(here), pc.is_null(before)).to_numpy(zero_copy_only=False)
        same[places] = equal | neither
    return same


def _before(values: Ints, first: Ints, run: Integers) -> Ints:
    """Sum of the values of the same run before each."""
    so_far = np.cumsum(values) - values
    before: Ints = so_far - so_far[first][run]
    return before


def _revisits(rows: Rows) -> tuple[Ints, Small]:
    """Place of the user's previous row with the same item, -1 where there is none; and the number of those."""
    order = np.argsort(key := pair_key(rows.user_index, rows.item_index), kind="stable")
    new = changes(key[order])
    previous = np.empty(len(rows), dtype=np.int64)
    previous[order[1:]] = np.where(new[1:], -1, order[:-1])
    previous[order[0]] = -1
    count = np.empty(len(rows), dtype=np.int32)
    count[order] = counted_on(new, rows.known[order], rows.revisit_count[order])
    return previous, count
