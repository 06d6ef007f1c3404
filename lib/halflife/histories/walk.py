"""One pass over the histories of a partition's users: rows in, files of events, sessions and sequences out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

import numpy as np
import pyarrow as pa

from halflife.histories import rows as history
from halflife.histories import sequences, sessions, tables
from halflife.histories.context import context_of, open_sessions
from halflife.histories.derive import Derived, derive
from halflife.histories.files import Files
from halflife.histories.past import Past, context
from halflife.histories.rows import TONIGHT, Bools, Integers, Ints, Rows, changes
from halflife.histories.sequences import Histories
from halflife.histories.sessions import Rules
from halflife.histories.tables import MICROS_PER_DAY, Names

SETTLED: Final = "settled"
ACTIVE: Final = "active_sequences"

# One row is one file that was written (table, part, file, rows), or what became of tonight's rows of one input file
# (file_index, accepted, duplicates).
LISTING: Final = pa.schema(
    [
        ("table", pa.string()),
        ("part", pa.string()),
        ("file", pa.string()),
        ("rows", pa.int64()),
        ("file_index", pa.int32()),
        ("accepted", pa.int64()),
        ("duplicates", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Settings:
    """What a walk is told; small enough to travel with each task."""

    gap_seconds: float
    max_session_seconds: float
    sequence_length: int
    folders: Mapping[str, str]  # of events, sessions, sequences and, if wanted, active_sequences; they exist
    settled_before_micros: int  # older days share one part; each later day has its own. A midnight, UTC
    items: str  # an Arrow file of the item ids, column `item_id`, in the order of their indexes
    event_types: Sequence[str]  # by type_index
    files: Sequence[tuple[str, str]]  # (source, source file) by file_index
    restate_from_micros: int | None = None  # stored sequences of users with rows hold up to here; None: not at all
    old_sequences: Mapping[int, Sequence[str]] = field(default_factory=dict)  # files of a bucket
    past: Past = field(default_factory=Past)
    chunk_rows: int = 262_144

    @property
    def rules(self) -> Rules:
        return Rules.of_seconds(self.gap_seconds, self.max_session_seconds)


def walk(batches: Iterable[pa.RecordBatch], settings: Settings) -> Iterator[pa.RecordBatch]:
    """Write the tables' files for the rows of one partition; yields what LISTING says.

    `batches` hold rows of `schemas.HISTORY` in their order, each bucket whole. Rows are taken up in chunks, so that
    memory does not grow with the events of a user: of the earlier rows of a chunk's first user there is
    `context.context_of`, of the events published before the window `past.context`. Where the former is large, so is
    the chunk: what is gone through in all stays in proportion to the rows.
    """
    with Files(settings.folders) as files, ThreadPoolExecutor(1) as ahead:
        output = _Output(settings, files)
        source, carried = iter(batches), None
        coming = ahead.submit(history.next_chunk, source, settings.chunk_rows)
        while chunk := coming.result():
            # The JVM makes the next batches while this chunk is gone through: alone, it would wait for each.
            coming = ahead.submit(history.next_chunk, source, max(settings.chunk_rows, _size(carried)))
            derived = derive(_behind(carried, history.from_batches(chunk), settings.past), settings.rules)
            output.write(derived, ~open_sessions(derived))
            carried = context_of(derived)
        if carried is not None:
            rest = derive(carried, settings.rules)
            output.write(rest, np.ones(len(rest.sessions), dtype=np.bool_))
        yield output.finish()


def _size(rows: Rows | None) -> int:
    return 0 if rows is None else len(rows)


def _behind(carried: Rows | None, rows: Rows, past: Past) -> Rows:
    """A chunk's rows behind what they must know of earlier ones."""
    published = context(past, rows, None if carried is None else int(carried.user_index[-1]))
    if published is not None:
        rows = history.behind(published, rows)
    return rows if carried is None else history.concat(carried, rows)


class _Output:
    """Sorts what was derived into the files of tables and parts."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self._settings, self._files = settings, files
        self._names = Names.of(_item_ids(settings.items), settings.event_types, settings.files)
        self._accepted: Counter[int] = Counter()
        self._duplicates: Counter[int] = Counter()
        self._bucket = -1
        self._histories: list[Histories] = []  # of the bucket
        self._active = np.empty(0, dtype=np.int32)  # users with events of tonight, where those are wanted

    def write(self, derived: Derived, closed: Bools) -> None:
        """Take up the rows that are not context, and the `closed` sessions, (S,), that have or had such rows."""
        rows, found = derived.rows, derived.sessions
        self._accepted.update(_counts(rows.file_index[rows.role == TONIGHT]))
        self._duplicates.update(_counts(derived.duplicates))
        ids = sessions.ids(rows, found)
        for part, numbers in self._parts(found.start_micros, closed & derived.totals.pending):
            self._files.write("sessions", part, tables.summaries(derived, ids, numbers))
        for part, places in self._parts(rows.micros, ~rows.known):
            self._files.write("events", part, tables.events(derived, ids, self._names, places))
        if not rows.known.all():
            self._collect(derived)

    def _collect(self, derived: Derived) -> None:
        """Keep each user's last events for their sequences, and write the buckets that are complete."""
        histories, bucket = sequences.last_of(derived, self._settings.sequence_length)
        if ACTIVE in self._settings.folders:
            self._active = np.union1d(self._active, derived.rows.user_index[derived.rows.role == TONIGHT])
        first = np.flatnonzero(changes(bucket))
        for begin, end in zip(first, np.append(first, len(bucket))[1:], strict=True):
            if bucket[begin] != self._bucket:
                self._write_sequences()
                self._bucket = int(bucket[begin])
            self._histories.append(histories.of(slice(begin, end)))

    def finish(self) -> pa.RecordBatch:
        """Close all files; returns the rows of LISTING."""
        self._write_sequences()
        listed = self._files.close_all()
        for file in sorted(self._accepted | self._duplicates):
            counts = {"accepted": self._accepted[file], "duplicates": self._duplicates[file]}
            listed.append({"file_index": file, **counts})
        return pa.RecordBatch.from_pylist(listed, schema=LISTING)

    def _parts(self, micros: Ints, wanted: Bools) -> Iterator[tuple[str, Ints]]:
        """The part of each day of the `wanted` times, and where those are."""
        settled = self._settings.settled_before_micros // MICROS_PER_DAY - 1
        day = np.maximum(micros // MICROS_PER_DAY, settled)
        for one in _counts(day[wanted]):
            part = SETTLED if one == settled else (date(1970, 1, 1) + timedelta(days=one)).isoformat()
            yield part, np.flatnonzero(wanted & (day == one))

    def _write_sequences(self) -> None:
        """Write the bucket's sequences, merged with its older ones."""
        if not self._histories:
            return
        length, old = self._settings.sequence_length, self._settings.old_sequences.get(self._bucket, ())
        made = sequences.merged(self._histories, length)
        if old:
            kept = sequences.read(old, made.user_index, self._settings.restate_from_micros)
            made = sequences.merged([kept, made], length)
        part = bucket_part(self._bucket)
        for rows in sequences.tables(made, length):
            self._files.write("sequences", part, rows)
            active = np.isin(rows["user_index"], self._active)
            if active.any():
                self._files.write(ACTIVE, "tonight", rows.filter(pa.array(active)))
        self._files.close("sequences", part)
        self._histories = []


def bucket_of(part: str) -> int:
    """The bucket of users whose sequences a part holds."""
    return int(part.removeprefix("users-"))


def bucket_part(bucket: int) -> str:
    return f"users-{bucket:06d}"


def _counts(values: Integers) -> dict[int, int]:
    """How often each value occurs; they lie close together."""
    if not len(values):
        return {}
    counts = np.bincount(values - (lowest := int(values.min())))
    return {lowest + int(place): int(counts[place]) for place in np.flatnonzero(counts)}


@lru_cache(maxsize=1)
def _item_ids(path: str) -> pa.StringArray:
    """The column `item_id` of an Arrow file; once a worker, and no copy where the file is one batch."""
    column = pa.ipc.open_file(pa.memory_map(path)).read_all()["item_id"]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
