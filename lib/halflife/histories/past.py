"""What the rows of a window must know of the events published before it, read from the files of the table `events`.

Files of events are sorted by user. So the task that walks over some users reads the row groups that hold these users,
first their user column alone. A lookup by a join in Spark took ten times the CPU, and shuffled what it found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from halflife import arrow
from halflife.histories.rows import CONTEXT, MICROS, Bools, Ints, Rows, changes, pair_key

# Columns that every lookup needs, and those of events whose session may go on.
NARROW: Final = ("item_index", "event_time", "revisit_count")
WIDE: Final = (*NARROW, "session_start", "session_position", "session_given", "session_id", "dwell_seconds")


@dataclass(frozen=True)
class Past:
    """The published files of events from before a window."""

    files: Sequence[str] = ()
    near: frozenset[str] = frozenset()  # those that may hold events from `reach_micros` on
    reach_micros: int = 0  # of older events the sessions are over, but for those that the log gives
    given: bool = False  # whether it gives any


def context(past: Past, rows: Rows, carried_user: int | None) -> Rows | None:
    """The context rows of the users of a chunk of `rows`, sorted by user and time; None where there are none.

    They are the published events of which a session may go on: all from the reach on, and those of given sessions
    that have rows. Of what is older there is the last event of the user and of each (user, item) pair of the rows;
    these stand for a time and a count alone. Of the chunk's last user, whose rows may not all be there yet, there is
    every pair and every given session; the user that has rows `carried` from the chunk before is left out.
    """
    of_others = rows.user_index != (-1 if carried_user is None else carried_user)
    if not past.files or not of_others.any():
        return None
    wanted = _Wanted.of(rows, of_others)
    found = [part for file in past.files for part in _of_file(past, file, wanted)]
    if not found:
        return None
    table = pa.concat_tables(found)
    return _as_rows(_without_earlier(table), rows.passed_on.schema)


@dataclass(frozen=True)
class _Wanted:
    """The users of a chunk, and what of theirs is looked for."""

    first_user: int
    among: Bools  # by user_index - first_user
    last_user: int
    pairs: Ints  # keys, sorted
    sessions: pa.Array  # ids that the log gives

    @classmethod
    def of(cls, rows: Rows, chosen: Bools) -> _Wanted:
        user_index, item_index = rows.user_index[chosen], rows.item_index[chosen]
        first, last = int(user_index[0]), int(user_index[-1])
        among = np.zeros(last - first + 1, dtype=np.bool_)
        among[user_index - first] = True
        given = rows.passed_on["given_session_id"].drop_null().unique()
        return cls(first, among, last, np.unique(pair_key(user_index, item_index)), given)

    def users(self, user_index: Ints) -> Bools:
        """Which rows are of the users."""
        inside = (user_index >= self.first_user) & (user_index <= self.last_user)
        inside[inside] = self.among[user_index[inside] - self.first_user]
        return inside

    def last_seen(self, user_index: Ints, item_index: Ints) -> Bools:
        """Which rows, sorted by user and time, are the last of a user or of one of the pairs."""
        keys = pair_key(user_index, item_index)
        place = np.minimum(np.searchsorted(self.pairs, keys), len(self.pairs) - 1)
        rows = np.flatnonzero(self.pairs[place] == keys)
        row_of_pair = np.full(len(self.pairs), -1)
        row_of_pair[place[rows]] = rows  # of several, the last one stays
        last: Bools = np.append(user_index[1:] != user_index[:-1], True) | (user_index == self.last_user)
        last[row_of_pair[row_of_pair >= 0]] = True
        return last


def _of_file(past: Past, path: str, wanted: _Wanted) -> Iterator[pa.Table]:
    """What a file holds of what is wanted, row group by row group."""
    wide = past.given or path in past.near
    with pq.ParquetFile(path, memory_map=True) as file:
        lowest, highest = arrow.ranges(file.metadata, "user_index")
        for group in np.flatnonzero((lowest <= wanted.last_user) & (highest >= wanted.first_user)).tolist():
            user_index = _column(file.read_row_group(group, ["user_index"], use_threads=False), "user_index")
            chosen = np.flatnonzero(wanted.users(user_index))
            if len(chosen):
                read = file.read_row_group(group, list(WIDE if wide else NARROW), use_threads=False).take(chosen)
                yield _chosen(past, wanted, read.add_column(0, "user_index", [user_index[chosen]]))


def _chosen(past: Past, wanted: _Wanted, events: pa.Table) -> pa.Table:
    """The context among the events of the wanted users, in the columns of a context row."""
    user_index, micros = _column(events, "user_index"), _micros(events["event_time"])
    last = wanted.last_seen(user_index, _column(events, "item_index"))
    going_on = np.zeros(len(events), dtype=np.bool_)
    if "session_id" in events.column_names:
        of_session = pc.or_(pc.is_in(events["session_id"], wanted.sessions), pa.array(user_index == wanted.last_user))
        going_on = pc.and_(events["session_given"], of_session).to_numpy() | (micros >= past.reach_micros)
    kept = np.flatnonzero(last | going_on)
    events, micros, going_on = events.take(kept), micros[kept], going_on[kept]
    columns = {name: events[name] for name in ("user_index", "item_index", "revisit_count")}
    columns |= {"micros": micros, "going_on": going_on}
    return pa.table(columns | _sessions(events, micros, going_on))


def _sessions(events: pa.Table, micros: Ints, going_on: Bools) -> dict[str, Any]:
    """What a context row tells of its session. One that is over is as if the event had been alone in it."""
    if "session_id" not in events.column_names:
        return {
            "session_start": micros,
            "session_position": np.zeros(len(events), dtype=np.int32),
            "given_session_id": pa.nulls(len(events), pa.string()),
            "dwell_seconds": pa.nulls(len(events), pa.float64()),
        }
    given = pc.and_(events["session_given"], pa.array(going_on))
    return {
        "session_start": np.where(going_on, _micros(events["session_start"]), micros),
        "session_position": np.where(going_on, _column(events, "session_position"), np.int32(0)),
        "given_session_id": pc.if_else(given, events["session_id"], None),
        "dwell_seconds": pc.if_else(pa.array(going_on), events["dwell_seconds"], None),
    }


def _without_earlier(found: pa.Table) -> pa.Table:
    """The rows by user and time; of those whose sessions are over, the last of each user and each pair."""
    user_index, item_index = _column(found, "user_index"), _column(found, "item_index")
    micros, count = _column(found, "micros"), _column(found, "revisit_count")
    last = np.zeros(len(found), dtype=np.bool_)
    by_pair = np.lexsort((count, micros, pair := pair_key(user_index, item_index)))
    last[by_pair] = np.append(changes(pair[by_pair])[1:], True)
    by_time = np.lexsort((micros, user_index))
    last[by_time] |= np.append(changes(user_index[by_time])[1:], True)
    kept = last | _column(found, "going_on")
    return found.take(by_time[kept[by_time]])


def _as_rows(found: pa.Table, passed_on: pa.Schema) -> Rows:
    """Context rows in the form of a walk's; of what nobody asks of them, nulls and zeros."""
    count = len(found)
    nothing, dwell = np.zeros(count, dtype=np.int64), found["dwell_seconds"]
    known = {name: found[name] for name in ("given_session_id", "dwell_seconds")}
    whole = pc.fill_null(dwell, -1 / MICROS).to_numpy()
    return Rows(
        bucket=np.zeros(count, dtype=np.int32),
        user_index=_column(found, "user_index"),
        item_index=_column(found, "item_index"),
        type_index=np.zeros(count, dtype=np.int32),
        file_index=np.full(count, -1, dtype=np.int32),
        micros=_column(found, "micros"),
        event_key=nothing,
        repeats=np.zeros(count, dtype=np.int8),
        role=np.full(count, CONTEXT, dtype=np.int8),
        strength=np.zeros(count),
        dwell_micros=np.rint(whole * MICROS).astype(np.int64),
        session_start=_column(found, "session_start"),
        session_position=_column(found, "session_position"),
        revisit_count=_column(found, "revisit_count"),
        session_items=nothing,
        session_engaged_micros=nothing,
        session_pending=nothing.astype(np.bool_),
        copies_published=nothing + 1,
        copies_tonight=nothing,
        passed_on=pa.table([known.get(field.name, pa.nulls(count, field.type)) for field in passed_on], passed_on),
    )


def _column(table: pa.Table, name: str) -> Any:
    return table[name].to_numpy()


def _micros(times: pa.ChunkedArray) -> Ints:
    micros: Ints = times.combine_chunks().view(pa.int64()).to_numpy()
    return micros
