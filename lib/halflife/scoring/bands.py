"""Tables of users' states in bands: a file holds the users of one band, sorted by user, so a night writes the files of
the bands that it changes and keeps the others.

Spark brings the changes of a band to one task; the task reads the band's old file, and writes the new one. The rows
that do not change are copied as Arrow columns and never become rows of Spark.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from halflife.warehouse.layout import ROW_GROUP_BYTES

# Rows of changes that are taken up at once, cut between users: of a band without an old file they are written so.
CHUNK_ROWS: Final = 262_144
LISTING: Final = "band long, file string, counted long"
# Readers look for users. Most numbers are single ones: a dictionary of them would be given up half-way.
HOW: Final = {
    "use_dictionary": ["leading_type", "event_count", "revived", "faded_on"],
    "write_statistics": ["user_index"],
}

# From a band's changes, sorted, and the rows of its old file, if there is one, to the rows that it has now.
Change = Callable[[pa.Table, pa.Table | None], pa.Table]


@dataclass(frozen=True)
class Bands:
    """How a table lies: bands of so many `users`, the `old` files by band, the folder of the new, their form."""

    users: int
    old: Mapping[int, Path]
    folder: Path
    schema: pa.Schema
    lists_bytes: int  # what the lists of a row take in memory: the schema does not tell their length
    counted: str = "user_index"  # the changes that have this are counted

    @property
    def rows_per_group(self) -> int:
        fixed: int = sum(field.type.bit_width for field in self.schema if not pa.types.is_list(field.type)) // 8
        return max(1, ROW_GROUP_BYTES // (fixed + self.lists_bytes))


def part_of(band: int) -> str:
    """What the files of a band are called by."""
    return f"{band:06}"


def write(changes: DataFrame, order: Sequence[str], bands: Bands, change: Change, tasks: int) -> list[Row]:
    """Write the files of all bands that `changes` (with user_index) has rows of; returns them, in LISTING.

    A band's changes come to `change` sorted by user_index, then by `order`. A task that is run twice leaves files that
    no task has returned.
    """

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return written(batches, bands, change)

    banded = changes.withColumn("band", F.floor(F.col("user_index") / bands.users).cast("int"))
    ordered = banded.repartition(tasks, "band").sortWithinPartitions("band", "user_index", *order)
    return ordered.mapInArrow(run, LISTING).collect()


def written(batches: Iterable[pa.RecordBatch], bands: Bands, change: Change) -> Iterator[pa.RecordBatch]:
    """Write the files of the bands in `batches`, sorted by band; yields LISTING.

    Where there is no old file, `change` gets the changes of a band in several parts, each of whole users.
    """
    for band, chunks in by_band(batches):
        file = bands.folder / f"{part_of(band)}-{uuid.uuid4().hex}.parquet"
        counts: list[int] = []
        chunks = _counted(chunks, bands.counted, counts)
        if band in bands.old:
            with pq.ParquetFile(bands.old[band], memory_map=True) as old:
                parts = iter([change(pa.concat_tables(chunks), old.read(use_threads=False))])
        else:
            parts = (change(chunk, None) for chunk in _of_whole_users(chunks))
        _store(file, parts, bands)
        yield pa.RecordBatch.from_pylist([{"band": band, "file": file.name, "counted": sum(counts)}])


def _counted(chunks: Iterable[pa.Table], column: str, counts: list[int]) -> Iterator[pa.Table]:
    """The same, and how many rows of each have the column."""
    for chunk in chunks:
        counts.append(len(chunk) - chunk[column].null_count)
        yield chunk


def by_band(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, Iterator[pa.Table]]]:
    """Each band with its rows, batch after batch; they must be taken before the next band is."""
    pieces = (piece for batch in batches for piece in _pieces(pa.Table.from_batches([batch]), "band"))
    for band, of_band in groupby(pieces, key=lambda piece: piece["band"][0].as_py()):
        yield band, (piece.drop_columns(["band"]) for piece in of_band)


def _pieces(rows: pa.Table, name: str) -> Iterator[pa.Table]:
    """Runs of rows that have the same value in a column."""
    values = rows[name].to_numpy()
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    for start, end in zip(starts, np.append(starts[1:], len(values)), strict=True):
        yield rows.slice(start, end - start)


def _of_whole_users(rows: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, in tables that no user's rows are divided between."""
    waiting: list[pa.Table] = []
    for part in rows:
        waiting.append(part)
        if sum(map(len, waiting)) >= CHUNK_ROWS:
            whole = pa.concat_tables(waiting)
            users = whole["user_index"].to_numpy()
            cut = int(np.searchsorted(users, users[-1]))
            if cut:
                yield whole.slice(0, cut)
            waiting = [whole.slice(cut)]
    yield pa.concat_tables(waiting)


def _store(path: Path, parts: Iterable[pa.Table], bands: Bands) -> None:
    """Write a file whose row groups are cut by the same rule however the rows come: equal rows give equal files."""
    with pq.ParquetWriter(path, bands.schema, compression="zstd", compression_level=1, **HOW) as writer:
        waiting = bands.schema.empty_table()
        for part in parts:
            waiting = pa.concat_tables([waiting, part])
            full = len(waiting) // bands.rows_per_group * bands.rows_per_group
            if full:
                writer.write_table(waiting.slice(0, full), bands.rows_per_group)
                waiting = waiting.slice(full)
        if len(waiting):
            writer.write_table(waiting)
