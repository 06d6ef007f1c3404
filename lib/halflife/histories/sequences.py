"""The last L events of each user, as the network reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from halflife.histories.derive import Derived
from halflife.histories.rows import CONTEXT, MICROS, Bools, Floats, Ints, Small, changes, next_chunk

MICROS_PER_HOUR = 3_600 * MICROS
ENTRIES_PER_TABLE = 1 << 20
FIRST_WEEKDAY = 3  # 1970 began on a Thursday; Monday is 0

# What the network sees of an event, in the order of `schemas.SEQUENCES`.
FEATURES: Final = {
    "item_index": np.int32,
    "type_index": np.int32,
    "strength": np.float32,
    "event_seconds": np.float64,
    "gap_log": np.float32,
    "revisit_gap_log": np.float32,
    "revisit_count": np.int32,
    "session_position": np.int32,
    "hour": np.int32,
    "weekday": np.int32,
}
SCHEMA: Final = pa.schema(
    [
        pa.field("user_index", pa.int32(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("last_event_time", pa.timestamp("us", "UTC"), nullable=False),
        *(
            pa.field(name, pa.list_(pa.field("element", pa.from_numpy_dtype(kind), nullable=False)), nullable=False)
            for name, kind in FEATURES.items()
        ),
    ]
)


@dataclass(frozen=True)
class Histories:
    """Events of U users, user by user, oldest first; `features` holds one array over all events a feature."""

    user_index: Small
    user_id: pa.StringArray
    length: Ints  # (U,) events of each
    last_micros: Ints  # (U,)
    features: dict[str, npt.NDArray[np.generic]]

    def __len__(self) -> int:
        return len(self.user_index)

    @property
    def begin(self) -> Ints:
        """(U,) where each user's events begin."""
        begin: Ints = np.cumsum(self.length) - self.length
        return begin

    def of(self, users: slice) -> Histories:
        """Some neighbouring users."""
        begin = int(self.length[: users.start].sum())
        events = slice(begin, begin + int(self.length[users].sum()))
        return Histories(
            self.user_index[users],
            self.user_id[users],
            self.length[users],
            self.last_micros[users],
            {name: values[events] for name, values in self.features.items()},
        )


def last_of(derived: Derived, length: int) -> tuple[Histories, Small]:
    """The last `length` of each user's events that are not context; and the bucket of each user."""
    rows = derived.rows
    events = np.flatnonzero(rows.role < CONTEXT)
    events = events[_among_last(rows.user_index[events], length)]
    first = np.flatnonzero(changes(rows.user_index[events]))
    features = _features(
        item_index=rows.item_index[events],
        type_index=rows.type_index[events],
        strength=rows.strength[events],
        micros=rows.micros[events],
        gap_seconds=np.maximum(derived.gap_micros[events], 0) / MICROS,
        revisit_gap_seconds=np.maximum(derived.revisit_gap_micros[events], 0) / MICROS,
        revisit_count=derived.revisit_count[events],
        session_position=derived.session_position[events],
    )
    users = rows.passed_on["user_id"].combine_chunks().take(events[first])
    histories = _of_users(rows.user_index[events], rows.micros[events], first, users, features)
    return histories, rows.bucket[events[first]]


def of_published(batches: Sequence[pa.RecordBatch], length: int) -> Histories:
    """The same of batches of `schemas.EVENTS`, sorted by (user_index, event_time, event_id)."""
    table = pa.Table.from_batches(batches).combine_chunks()
    user_index: Small = table["user_index"].to_numpy()
    events = np.flatnonzero(_among_last(user_index, length))
    table, user_index = table.take(events), user_index[events]
    first = np.flatnonzero(changes(user_index))
    micros: Ints = table["event_time"].combine_chunks().view(pa.int64()).to_numpy()
    taken = ("item_index", "type_index", "strength", "revisit_count", "session_position")
    gaps = ("gap_seconds", "revisit_gap_seconds")
    features = _features(
        micros=micros,
        **{name: table[name].to_numpy() for name in taken},
        **{name: pc.fill_null(table[name], 0.0).to_numpy() for name in gaps},
    )
    return _of_users(user_index, micros, first, table["user_id"].combine_chunks().take(first), features)


def merged(parts: Sequence[Histories], length: int) -> Histories:
    """The last `length` events of each user of any part. Of one user's parts, the earlier events come first."""
    user_index = np.concatenate([part.user_index for part in parts])
    order = np.argsort(user_index, kind="stable")
    lengths = np.concatenate([part.length for part in parts])
    begin = np.cumsum(lengths) - lengths
    events = _spans(begin[order], lengths[order])
    of_event = np.repeat(user_index[order], lengths[order])
    events = events[_among_last(of_event, length)]
    user_index = user_index[order]
    first = np.flatnonzero(changes(user_index))
    last = np.append(first, len(user_index))[1:] - 1
    return Histories(
        user_index[first],
        pa.concat_arrays([part.user_id for part in parts]).take(order[last]),
        np.minimum(np.add.reduceat(lengths[order], first), length),
        np.concatenate([part.last_micros for part in parts])[order[last]],
        {name: np.concatenate([part.features[name] for part in parts])[events] for name in FEATURES},
    )


def read(paths: Iterable[str], touched: Small, restate_from_micros: int | None) -> Histories:
    """The sequences of a bucket's files; of the users `touched`, only what is older than the time restated from."""
    table = pa.concat_tables([pq.read_table(path, columns=SCHEMA.names) for path in paths]).combine_chunks()
    width = len(table["item_index"].combine_chunks().flatten()) // max(len(table), 1)
    flat = {name: table[name].combine_chunks().flatten().to_numpy().reshape(-1, width) for name in FEATURES}
    user_index: Small = table["user_index"].to_numpy()
    kept: Bools = np.arange(width) < table["length"].to_numpy()[:, None]
    until = -np.inf if restate_from_micros is None else restate_from_micros / MICROS
    kept &= (flat["event_seconds"] < until) | ~np.isin(user_index, touched)[:, None]
    return Histories(
        user_index,
        table["user_id"].combine_chunks(),
        kept.sum(axis=1),
        table["last_event_time"].combine_chunks().view(pa.int64()).to_numpy(),
        {name: values[kept] for name, values in flat.items()},
    )


def tables(histories: Histories, length: int) -> Iterator[pa.Table]:
    """One row a user in the columns of `schemas.SEQUENCES`, in tables that are not too large for a row group."""
    users = max(ENTRIES_PER_TABLE // length, 1)
    for begin in range(0, len(histories), users):
        yield _padded(histories.of(slice(begin, begin + users)), length)


def _padded(histories: Histories, length: int) -> pa.Table:
    """One row a user, with zeros behind each user's events."""
    shape = (len(histories), length)
    offsets = pa.array(np.arange(len(histories) + 1, dtype=np.int32) * length)
    filled = np.arange(length) < histories.length[:, None]
    lists = []
    for name in FEATURES:
        values = np.zeros(shape, dtype=FEATURES[name])
        values[filled] = histories.features[name]
        lists.append(pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)), type=SCHEMA.field(name).type))
    times = pa.array(histories.last_micros).view(pa.timestamp("us", "UTC"))
    columns = [pa.array(histories.user_index), histories.user_id, pa.array(histories.length.astype(np.int32)), times]
    return pa.table([*columns, *lists], schema=SCHEMA)


def last_events(batches: Iterable[pa.RecordBatch], length: int, chunk_rows: int) -> Iterator[pa.RecordBatch]:
    """Rows of `schemas.TRAINING` of batches of events, sorted by (user_index, event_time, event_id)."""
    unfinished: list[Histories] = []
    source = iter(batches)
    while chunk := next_chunk(source, chunk_rows):
        histories = merged([*unfinished, of_published(chunk, length)], length)
        last = len(histories) - 1
        yield packed(histories.of(slice(0, last)))
        unfinished = [histories.of(slice(last, last + 1))]
    yield from map(packed, unfinished)


def packed(histories: Histories) -> pa.RecordBatch:
    """One row a user in the columns of `schemas.TRAINING`, without a copy of a feature."""
    ends, columns = np.append(0, np.cumsum(histories.length)), [pa.array(histories.user_index)]
    for name, kind in FEATURES.items():
        values = np.ascontiguousarray(histories.features[name])
        offsets = (ends * np.dtype(kind).itemsize).astype(np.int32)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
        columns.append(pa.Array.from_buffers(pa.binary(), len(histories), buffers))
    return pa.record_batch(columns, names=["user_index", *FEATURES])


def _of_users(
    user_index: Small, micros: Ints, first: Ints, users: pa.StringArray, features: dict[str, npt.NDArray[np.generic]]
) -> Histories:
    """Histories of events that are sorted by user; `first`: where each user's begin."""
    end = np.append(first, len(user_index))[1:]
    return Histories(user_index[first], users, end - first, micros[end - 1], features)


def _features(
    *,
    item_index: Small,
    type_index: Small,
    strength: Floats,
    micros: Ints,
    gap_seconds: Floats,
    revisit_gap_seconds: Floats,
    revisit_count: Small,
    session_position: Small,
) -> dict[str, npt.NDArray[np.generic]]:
    """The features of events, one array each; gaps are 0 where there is none."""
    hours = micros // MICROS_PER_HOUR
    values: dict[str, npt.NDArray[np.generic]] = {
        "item_index": item_index,
        "type_index": type_index,
        "strength": strength,
        "event_seconds": micros / MICROS,
        "gap_log": np.log1p(gap_seconds),
        "revisit_gap_log": np.log1p(revisit_gap_seconds),
        "revisit_count": revisit_count,
        "session_position": session_position,
        "hour": hours % 24,
        "weekday": (hours // 24 + FIRST_WEEKDAY) % 7,
    }
    return {name: values[name].astype(kind, copy=False) for name, kind in FEATURES.items()}


def _among_last(user_index: Small, length: int) -> Bools:
    """Which rows are among the last `length` of their user, of rows sorted by user."""
    among: Bools = np.ones(len(user_index), dtype=np.bool_)
    among[:-length] = user_index[length:] != user_index[:-length]
    return among


def _spans(begin: Ints, length: Ints) -> Ints:
    """All places of the spans, one span after the other."""
    before = np.cumsum(length) - length
    places: Ints = np.repeat(begin - before, length) + np.arange(int(length.sum()))
    return places
