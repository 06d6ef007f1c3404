"""The events of a walk as arrays, one row an event, in the order of `schemas.HISTORY`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Small = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]  # of any width

MICROS = 1_000_000  # of a second
CHUNK_BYTES = 1 << 29  # an Arrow column of text holds less than 2^31

# Roles of a row. Context was published before the window (halflife.histories.past). A carried row is context too, but
# of this very walk: it precedes the rest of its user's rows in the next chunk, and speaks for those left behind.
TONIGHT, PUBLISHED, CONTEXT, CARRIED = 0, 1, 2, 3

# Columns that may be left out where they are null.
NULLABLE = {
    "event_id": pa.string(),
    "given_session_id": pa.string(),
    "dwell_seconds": pa.float64(),
    "rating": pa.float64(),
    "quantity": pa.float64(),
    "context": pa.map_(pa.string(), pa.string()),
}

# What no step computes with: these go from the input to the output as they are.
PASSED_ON = (
    "user_id",
    "event_id",
    "given_session_id",
    "dwell_seconds",
    "rating",
    "quantity",
    "dwell_imputed",
    "rating_imputed",
    "context",
)


@dataclass(frozen=True)
class Rows:
    """n events; each field has one value an event, in the order of the walk."""

    bucket: Small
    user_index: Small
    item_index: Small
    type_index: Small
    file_index: Small
    micros: Ints  # time since 1970
    event_key: Ints
    repeats: npt.NDArray[np.int8]
    role: npt.NDArray[np.int8]
    strength: Floats
    dwell_micros: Ints  # -1 where unknown
    # What was found of context rows:
    session_start: Ints
    session_position: Small
    revisit_count: Small
    # What the last carried row of a session, and of an event, says of all that came before:
    session_items: Ints
    session_engaged_micros: Ints
    session_pending: Bools  # whether the session is one to write
    copies_published: Ints
    copies_tonight: Ints
    passed_on: pa.Table

    def __len__(self) -> int:
        return len(self.micros)

    @property
    def known(self) -> Bools:
        """Which rows are context: their sessions and counts are found."""
        return self.role >= CONTEXT

    @property
    def first_of_user(self) -> Bools:
        """Which rows are the first of their user."""
        return changes(self.user_index)

    def take(self, places: Ints) -> Rows:
        """The rows at some places."""
        return Rows(*(getattr(self, field.name).take(places) for field in fields(self)))


def next_chunk(batches: Iterator[pa.RecordBatch], at_least: int) -> list[pa.RecordBatch]:
    """Batches of at least so many rows, or so much text that it had better not be more; none at the end."""
    chunk: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        if batch.num_rows:
            chunk.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= at_least or size >= CHUNK_BYTES:
            break
    return chunk


def from_batches(batches: Sequence[pa.RecordBatch]) -> Rows:
    """The rows of record batches that have the columns of `schemas.HISTORY`."""
    table = pa.Table.from_batches(batches).combine_chunks()
    for name, kind in NULLABLE.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.chunked_array([pa.nulls(len(table), kind)]))
    role = _numbers(table["role"])
    nothing = np.zeros(len(role), dtype=np.int64)
    return Rows(
        bucket=_numbers(table["bucket"]),
        user_index=_numbers(table["user_index"]),
        item_index=_numbers(table["item_index"]),
        type_index=_numbers(table["type_index"]),
        file_index=_numbers(table["file_index"]),
        micros=_micros(table["event_time"]),
        event_key=_numbers(table["event_key"]),
        repeats=_numbers(table["repeats"]),
        role=role,
        strength=_numbers(table["strength"]),
        dwell_micros=_whole_micros(table["dwell_seconds"]),
        session_start=nothing,
        session_position=nothing.astype(np.int32),
        revisit_count=nothing.astype(np.int32),
        session_items=nothing,
        session_engaged_micros=nothing,
        session_pending=nothing.astype(np.bool_),
        copies_published=(role != TONIGHT).astype(np.int64),
        copies_tonight=(role == TONIGHT).astype(np.int64),
        passed_on=table.select(PASSED_ON),
    )


def concat(first: Rows, then: Rows) -> Rows:
    """The rows of both, one after the other."""
    names = [field.name for field in fields(Rows) if field.name != "passed_on"]
    numbers = {name: np.concatenate([getattr(first, name), getattr(then, name)]) for name in names}
    return replace(first, **numbers, passed_on=pa.concat_tables([first.passed_on, then.passed_on]).combine_chunks())


def behind(context: Rows, rows: Rows) -> Rows:
    """The rows of both, each user's context first; both are sorted by user."""
    both = concat(context, rows)
    return both.take(np.argsort(both.user_index, kind="stable"))


def changes(values: npt.NDArray[np.generic]) -> Bools:
    """Which values differ from the one before; the first does."""
    changed = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed


def counted_on(first: Bools, known: Bools, value: Integers) -> Small:
    """0-based place of each row in its run, counted on from the highest that is `known` of the run.

    The known rows of a run come first. They need not be in the order of their values: of an event's copies, the tenth
    sorts before the second.
    """
    begin, run, place = np.flatnonzero(first), np.cumsum(first) - 1, np.arange(len(first))
    highest = np.maximum.reduceat(np.where(known, value, -1), begin)
    counted = place - (begin + np.add.reduceat(known, begin, dtype=np.int64) - highest - 1)[run]
    places: Small = np.where(known, value, counted).astype(np.int32)
    return places


def pair_key(left: Integers, right: Integers) -> Ints:
    """One number for two that are not negative and below 2^31; sorts like (left, right)."""
    key: Ints = (left.astype(np.int64) << 32) | right
    return key


def _numbers(column: pa.ChunkedArray, missing: float = 0) -> Any:
    """A column of one chunk as an array of its own type, without a copy where there are no nulls."""
    values = column.chunk(0)
    if values.null_count == 0:
        return values.to_numpy()
    if values.null_count == len(values):
        return np.full(len(values), missing, dtype=values.type.to_pandas_dtype())
    return pc.fill_null(values, missing).to_numpy()


def _micros(times: pa.ChunkedArray) -> Ints:
    micros: Ints = _numbers(pa.chunked_array([times.chunk(0).view(pa.int64())]))
    return micros


def _whole_micros(seconds: pa.ChunkedArray) -> Ints:
    """Seconds as whole microseconds, whose sum does not depend on the order in which they are added; -1 for nulls."""
    micros: Ints = np.rint(_numbers(seconds, missing=-1 / MICROS) * MICROS).astype(np.int64)
    return micros
