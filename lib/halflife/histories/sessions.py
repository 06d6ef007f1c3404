"""Which session each event belongs to, what it is called, and what the session adds up to."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from halflife.histories.rows import CARRIED, CONTEXT, MICROS, Bools, Ints, Rows, Small, changes, counted_on, pair_key
from halflife.histories.text import hexadecimal

UNKNOWN = np.iinfo(np.int64).min  # a session's start, of rows that are not context


@dataclass(frozen=True)
class Rules:
    """When a session ends. A larger gap ends it, and a larger span does."""

    gap_micros: int
    max_session_micros: int

    @classmethod
    def of_seconds(cls, gap_seconds: float, max_session_seconds: float) -> Rules:
        return cls(round(gap_seconds * MICROS), round(max_session_seconds * MICROS))


@dataclass(frozen=True)
class Sessions:
    """S sessions of n rows. Sessions without an id of their own come first, in the order of their rows."""

    number: Ints  # (n,) session of each row, 0..S-1
    order: Ints | slice  # (n,) places of the rows, session by session
    first: Ints  # (S,) where in that order each session begins
    start_micros: Ints  # (S,) time of the first event, be it among the rows or not
    given: pa.StringArray  # ids of the sessions that came with one: the last of the S

    def __len__(self) -> int:
        return len(self.first)

    @property
    def last_row(self) -> Ints:
        """(S,) place of the last row of each session."""
        last = np.append(self.first, len(self.number))[1:] - 1
        places: Ints = np.arange(len(self.number))[self.order][last]
        return places

    @property
    def by_gaps(self) -> int:
        """How many sessions have no id of their own."""
        return len(self) - len(self.given)


@dataclass(frozen=True)
class Totals:
    """What S sessions add up to; one value a session."""

    end_micros: Ints
    events: Ints
    items: Ints
    engaged_micros: Ints
    pending: Bools  # whether it has rows that are not context


def assign(rows: Rows, rules: Rules) -> Sessions:
    """Give each row its session.

    A gap larger than the rules' starts a session, a gap of exactly that does not; the first event that is further
    from the session's start than the rules' longest session starts one too. Events with a session id of their own
    belong to that session of the user; they neither end nor prolong the others.
    """
    known_start = np.where(rows.known, rows.session_start, UNKNOWN)
    given_ids = rows.passed_on["given_session_id"].combine_chunks()
    if given_ids.null_count == len(rows):
        begins, start = _by_gaps(rows.user_index, rows.micros, known_start, rules)
        number = np.cumsum(begins) - 1
        return Sessions(number, slice(None), np.flatnonzero(begins), start, pa.array([], pa.string()))
    own = given_ids.is_valid().to_numpy(zero_copy_only=False)
    begins, start = _by_gaps(rows.user_index[~own], rows.micros[~own], known_start[~own], rules)
    own_ids = given_ids.drop_null()
    own_number, own_first = _by_id(rows.user_index[own], own_ids)
    own_start = known_start[own][own_first]
    number = np.empty(len(rows), dtype=np.int64)
    number[~own] = np.cumsum(begins) - 1
    number[own] = own_number + len(start)
    order = np.argsort(number, kind="stable")
    return Sessions(
        number,
        order,
        np.flatnonzero(changes(number[order])),
        np.concatenate([start, np.where(own_start == UNKNOWN, rows.micros[own][own_first], own_start)]),
        own_ids.take(own_first),
    )


def _by_gaps(user_index: Small, micros: Ints, known_start: Ints, rules: Rules) -> tuple[Bools, Ints]:
    """Which rows begin a session, as gaps have it; and the sessions' starts."""
    known = known_start != UNKNOWN
    begins = changes(user_index)
    begins[1:] |= np.where(known[1:], known_start[1:] != known_start[:-1], np.diff(micros) > rules.gap_micros)
    first = np.flatnonzero(begins)
    end = np.append(first, len(begins))[1:]
    start = np.where(known[first], known_start[first], micros[first])
    too_long = np.flatnonzero(micros[end - 1] - start > rules.max_session_micros)
    if not len(too_long):
        return begins, start
    for number in too_long:
        begins[_cuts(micros[first[number] : end[number]], start[number], rules) + first[number]] = True
    first = np.flatnonzero(begins)
    return begins, np.where(known[first], known_start[first], micros[first])


def _cuts(micros: Ints, start: int, rules: Rules) -> Ints:
    """Where a session that started at `start` is cut, and cut again, for being too long."""
    times, cuts, place = micros.tolist(), [], 0
    while (place := bisect_right(times, start + rules.max_session_micros, lo=place)) < len(times):
        start = times[place]
        cuts.append(place)
    return np.array(cuts, dtype=np.int64)


def _by_id(user_index: Small, ids: pa.StringArray) -> tuple[Ints, Ints]:
    """Number of the (user, id) of each row, 0.. by user; and the first row of each."""
    key = pair_key(user_index, ids.dictionary_encode().indices.to_numpy())
    _, first, number = np.unique(key, return_index=True, return_inverse=True)
    return number, first


def positions(rows: Rows, sessions: Sessions) -> Small:
    """0-based place of each row in its session."""
    begins = np.zeros(len(rows), dtype=np.bool_)
    begins[sessions.first] = True
    order = sessions.order
    position = np.empty(len(rows), dtype=np.int32)
    position[order] = counted_on(begins, rows.known[order], rows.session_position[order])
    return position


def totals(rows: Rows, sessions: Sessions, position: Small, previous_of_item: Ints, rules: Rules) -> Totals:
    """Add up each session: (S,) arrays.

    `previous_of_item`: place of the user's previous row with the same item, -1 where there is none. Engaged time is
    the dwell where it is known, else the gap to the session's previous event as far as it ends no session. All sums
    are of whole numbers, so that they come out the same in whatever pieces the rows came.
    """
    order, first = sessions.order, sessions.first
    carried = rows.role == CARRIED
    items = np.where(carried, rows.session_items, _new_to_session(rows, sessions, previous_of_item))
    gap = np.diff(rows.micros[order], prepend=0)
    gap[first] = 0
    dwell = rows.dwell_micros[order]
    engaged = np.where(dwell >= 0, dwell, np.minimum(gap, rules.gap_micros))
    engaged = np.where(carried[order], rows.session_engaged_micros[order], engaged)
    last = sessions.last_row
    return Totals(
        end_micros=rows.micros[last],
        events=position[last].astype(np.int64) + 1,
        items=np.add.reduceat(items[order], first),
        engaged_micros=np.add.reduceat(engaged, first),
        pending=np.logical_or.reduceat(((rows.role < CONTEXT) | rows.session_pending)[order], first),
    )


def _new_to_session(rows: Rows, sessions: Sessions, previous_of_item: Ints) -> Bools:
    """Which rows are the first of their item in their session."""
    number = sessions.number
    if not len(sessions.given):  # a session's rows are neighbours: so are its rows of one item
        unlike: Bools = number[previous_of_item] != number
        return unlike | (previous_of_item < 0)
    order = np.argsort(key := pair_key(number, rows.item_index), kind="stable")
    new = np.empty(len(rows), dtype=np.bool_)
    new[order] = changes(key[order])
    return new


def ids(rows: Rows, sessions: Sessions) -> pa.StringArray:
    """The sessions' ids, (S,): the given ones, and for the others a digest of user and start."""
    last_of_user = np.append(np.flatnonzero(rows.first_of_user), len(rows))[1:] - 1
    users = rows.passed_on["user_id"].take(last_of_user).to_pylist()  # of a user's context, not each row has it
    digests = np.frombuffer(b"".join(blake2b(user.encode(), digest_size=8).digest() for user in users), dtype="<u8")
    user = np.searchsorted(last_of_user, sessions.last_row[: sessions.by_gaps])
    mixed = _mixed(digests[user], sessions.start_micros[: sessions.by_gaps])
    return pa.concat_arrays([hexadecimal(mixed), sessions.given])


def _mixed(digest: npt.NDArray[np.uint64], micros: Ints) -> npt.NDArray[np.uint64]:
    """64 bits of a user's digest and a time, different for different times of a user (SplitMix64)."""
    mixed = digest + micros.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed
