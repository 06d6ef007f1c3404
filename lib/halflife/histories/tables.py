"""Rows of the tables `events` and `sessions` from what was derived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from halflife.histories.derive import Derived
from halflife.histories.rows import MICROS, Integers, Ints, Small, changes
from halflife.histories.text import dictionary, hexadecimal, suffixes

MICROS_PER_DAY = 86_400 * MICROS
WORDS: Final = pa.dictionary(pa.int32(), pa.string())
TIME: Final = pa.timestamp("us", "UTC")


def _schema(*fields: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    return pa.schema([pa.field(field[0], field[1], nullable=len(field) > 2) for field in fields])


# `schemas.EVENTS` and `schemas.SESSIONS`, with columns of few different values as dictionaries.
EVENTS: Final = _schema(
    ("user_id", WORDS),
    ("item_id", WORDS),
    ("event_type", WORDS),
    ("event_time", TIME),
    ("event_id", pa.string()),
    ("dwell_seconds", pa.float64(), True),
    ("rating", pa.float64(), True),
    ("quantity", pa.float64(), True),
    ("dwell_imputed", pa.bool_()),
    ("rating_imputed", pa.bool_()),
    ("strength", pa.float64()),
    ("session_id", WORDS),
    ("session_given", pa.bool_()),
    ("session_start", TIME),
    ("session_position", pa.int32()),
    ("gap_seconds", pa.float64(), True),
    ("revisit_gap_seconds", pa.float64(), True),
    ("revisit_count", pa.int32()),
    ("source", WORDS),
    ("source_file", WORDS),
    ("context", pa.map_(pa.string(), pa.string()), True),
    ("user_index", pa.int32()),
    ("item_index", pa.int32()),
    ("type_index", pa.int32()),
)
SESSIONS: Final = _schema(
    ("session_id", pa.string()),
    ("user_id", WORDS),
    ("user_index", pa.int32()),
    ("start_time", TIME),
    ("end_time", TIME),
    ("events", pa.int64()),
    ("items", pa.int64()),
    ("engaged_seconds", pa.float64()),
)


@dataclass(frozen=True)
class Names:
    """What the indexes of events stand for; `sources` and `files` are codes by file_index, with their values.

    No value stands twice: of a dictionary with repeats, pyarrow 14 writes as many bytes of stray memory as they have.
    """

    items: pa.StringArray
    event_types: pa.StringArray
    sources: pa.DictionaryArray
    files: pa.DictionaryArray

    @classmethod
    def of(cls, items: pa.StringArray, event_types: Sequence[str], files: Sequence[tuple[str, str]]) -> Names:
        sources, paths = (pa.array([file[part] for file in files], pa.string()).dictionary_encode() for part in (0, 1))
        return cls(items, pa.array(event_types, pa.string()), sources, paths)


def events(derived: Derived, session_ids: pa.StringArray, names: Names, places: Ints) -> pa.Table:
    """The rows of `derived` at some places, in the columns of EVENTS."""
    rows, found = derived.rows, derived.sessions
    whole = len(places) == len(rows)
    kept: Ints | slice = slice(None) if whole else places  # as most often all are wanted: nothing is copied then
    passed_on = rows.passed_on if whole else rows.passed_on.take(places)
    file_index, session = rows.file_index[kept], found.number[kept]
    columns = {name: passed_on[name] for name in passed_on.column_names if name in EVENTS.names}
    columns |= {name: getattr(rows, name)[kept] for name in ("strength", "user_index", "item_index", "type_index")}
    columns |= {
        "user_id": _users(rows.user_index[kept], passed_on["user_id"]),
        "item_id": dictionary(rows.item_index[kept], names.items),
        "event_type": dictionary(rows.type_index[kept], names.event_types),
        "event_time": _times(rows.micros[kept]),
        "event_id": _event_ids(passed_on["event_id"], rows.event_key[kept], derived.copy_number[kept]),
        "session_id": named(session, session_ids.dictionary_encode()),  # a given id may be of several sessions
        "session_given": session >= found.by_gaps,
        "session_start": _times(found.start_micros[session]),
        "session_position": derived.session_position[kept],
        "gap_seconds": _seconds(derived.gap_micros[kept]),
        "revisit_gap_seconds": _seconds(derived.revisit_gap_micros[kept]),
        "revisit_count": derived.revisit_count[kept],
        "source": named(file_index, names.sources),
        "source_file": named(file_index, names.files),
    }
    return pa.table([columns[name] for name in EVENTS.names], schema=EVENTS)


def named(codes: Integers, names: pa.DictionaryArray) -> pa.DictionaryArray:
    """`names` at the places `codes`, no value twice in the dictionary."""
    return dictionary(names.indices.to_numpy()[codes], names.dictionary)


def summaries(derived: Derived, session_ids: pa.StringArray, kept: Ints) -> pa.Table:
    """The sessions of some numbers, in the columns of SESSIONS, sorted by user and start."""
    rows, found, totals = derived.rows, derived.sessions, derived.totals
    last = found.last_row
    if len(found.given):
        kept = kept[np.lexsort((found.start_micros[kept], rows.user_index[last[kept]]))]
    user_index = rows.user_index[last[kept]]
    columns = [
        session_ids.take(kept),
        _users(user_index, rows.passed_on["user_id"].take(last[kept])),
        user_index,
        _times(found.start_micros[kept]),
        _times(totals.end_micros[kept]),
        totals.events[kept],
        totals.items[kept],
        totals.engaged_micros[kept] / MICROS,
    ]
    return pa.table(columns, schema=SESSIONS)


def _users(user_index: Small, user_ids: pa.ChunkedArray) -> pa.DictionaryArray:
    """The ids of rows that are sorted by user: each id once."""
    first = changes(user_index)
    place = np.cumsum(first, dtype=np.int32) - 1
    return pa.DictionaryArray.from_arrays(place, user_ids.combine_chunks().take(np.flatnonzero(first)))


def _event_ids(own: pa.ChunkedArray, key: Ints, copy_number: Ints) -> pa.Array:
    """The log's own ids, or else digests behind `~`; with a suffix where the row is a copy of another."""
    ids = own.combine_chunks()
    if ids.null_count:
        digests = hexadecimal(key, prefix=b"~")
        ids = digests if ids.null_count == len(ids) else pc.coalesce(ids, digests)
    return pc.binary_join_element_wise(ids, suffixes(copy_number), "") if copy_number.any() else ids


def _times(micros: Ints) -> pa.Array:
    return pa.array(micros).view(TIME)


def _seconds(micros: Ints) -> pa.Array:
    """Seconds, and null for what is negative."""
    return pa.array(micros / MICROS, mask=micros < 0)
