"""Users' states on their way from where they lie, by user index, to where scores stand, by user id.

Tasks read the states, pack what counts tonight, and leave it in files of the run's own, sorted by the place of the user
among the ids. A task that scores a range of users maps all these files and takes its slice of each. It is what a
shuffle of Spark does, without a row ever becoming an object of the JVM.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import Row, SparkSession
from pyspark.sql import types as T

from halflife import arrow
from halflife.decay import Floats
from halflife.scoring import remembered
from halflife.scoring.pairs import Indexes, Matrix
from halflife.scoring.remembered import Pairs

# Bytes of Parquet, unpacked, that are sorted in memory at once.
BYTES_PER_SHARE: Final = 128 * 1024 * 1024
# From one of Spark's tasks to the next a Python worker takes .15 s: it collects garbage, and looks for new modules in
# pyspark's archive.
SHARES_PER_TASK: Final = 4

COLUMNS: Final = {
    "user_states": ("user_index", "anchor_time", "readouts"),
    "memory": remembered.COLUMNS,
}

READ_ROWS: Final = 65_536
IDS, PLACES = "ids.arrow", "places.npy"
PACKED: Final = pa.binary(remembered.PAIR.itemsize)


@dataclass(frozen=True)
class States:
    """A block of B users with what is known of each, and their M remembered pairs, user by user.

    readouts (B, K, d), zero without events; anchor_seconds (B,), -inf without; user (M,) counts the block's users.
    """

    readouts: Matrix
    anchor_seconds: Floats
    user: Indexes
    pairs: Pairs


@dataclass(frozen=True)
class RowGroup:
    """What a task reads at least."""

    table: str
    file: Path
    number: int
    nbytes: int


@dataclass(frozen=True)
class Ordered:
    """The users of a night in the order of their ids, and their states in files sorted by that place."""

    users: int
    folder: Path
    files: tuple[Row, ...] = ()  # table, file, rows

    @property
    def pairs(self) -> int:
        """How many pairs are remembered."""
        return sum(file["rows"] for file in self.files if file["table"] == "memory")


class Reader:
    """Reads blocks of them, from files that are mapped as long as this object lives."""

    def __init__(self, ordered: Ordered, channels: int, size: int) -> None:
        self._shape = channels, size  # of a user's read-outs
        self.ids: pa.Array = _mapped(ordered.folder / IDS).column(0)
        self._files: dict[str, list[tuple[Indexes, pa.RecordBatch]]] = {table: [] for table in COLUMNS}
        for file in ordered.files:
            rows = _mapped(ordered.folder / file["file"])
            self._files[file["table"]].append((rows.column("place").to_numpy(), rows))

    def block(self, begin: int, end: int) -> States:
        """The states of the users from place `begin` to before `end`."""
        readouts = np.zeros((end - begin, *self._shape), dtype=np.float32)
        anchors = np.full(end - begin, -np.inf)
        for place, rows in self._rows("user_states", begin, end):
            readouts[place] = arrow.matrix(rows.column("readouts")).reshape(-1, *self._shape)
            anchors[place] = rows.column("anchor_seconds").to_numpy()
        places, parts = [np.empty(0, np.int32)], [np.empty(0, remembered.PAIR)]
        for place, rows in self._rows("memory", begin, end):
            places.append(place)
            parts.append(_unpacked(rows.column("pairs")))
        user = np.concatenate(places)
        by_user = np.argsort(user, kind="stable")  # a user's pairs may lie in several files
        return States(readouts, anchors, user[by_user], np.concatenate(parts)[by_user])

    def _rows(self, table: str, begin: int, end: int) -> Iterator[tuple[Indexes, pa.RecordBatch]]:
        for place, rows in self._files[table]:
            first, last = np.searchsorted(place, [begin, end])
            if first < last:
                yield place[first:last] - np.int32(begin), rows.slice(first, last - first)


def by_id(
    spark: SparkSession,
    users: Path,
    tables: Mapping[str, Path],
    scratch: Path,
    at_seconds: float,
    half_lives_days: Floats,
    horizon_days: float,
) -> Ordered:
    """Bring the states in the folders of `tables` (user_states, memory) into the order of the ids in that of `users`.

    Users who were forgotten have no id and are left out.
    """
    scratch.mkdir()
    known = _write_places(users, scratch)
    shares = _shares([group for table, folder in tables.items() for group in _row_groups(table, folder)])
    law = (half_lives_days, horizon_days)

    def sort(share: int) -> pa.RecordBatch:
        places = np.load(scratch / PLACES, mmap_mode="r")
        table, name = shares[share][0].table, f"{uuid.uuid4().hex}.arrow"
        rows = _packed(shares[share], places, at_seconds, *law)
        _write(rows, scratch / name)
        return pa.RecordBatch.from_pylist([{"table": table, "file": name, "rows": len(rows)}])

    # A task that is run twice leaves a file that no task has returned; it goes with the run's scratch.
    return Ordered(known, scratch, tuple(each(spark, len(shares), sort, "table string, file string, rows long")))


def each(
    spark: SparkSession, shares: int, work: Callable[[int], pa.RecordBatch], schema: T.StructType | str
) -> list[Row]:
    """The rows (of `schema`) that `work` makes of each share 0, 1, ... of a whole, on all cores."""
    cores = spark.sparkContext.defaultParallelism
    tasks = max(1, min(shares, cores * math.ceil(shares / cores / SHARES_PER_TASK)))

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.column("id").to_pylist():
                yield from map(work, range(task, shares, tasks))

    return spark.range(0, tasks, 1, tasks).mapInArrow(run, schema).collect()


def _write_places(users: Path, scratch: Path) -> int:
    """Write the ids in their order, and the place of each user index among them (-1: none); returns how many ids."""
    table = pq.read_table(users, columns=["user_index", "user_id"])
    known = table.filter(pc.is_valid(table["user_id"])).sort_by("user_id").combine_chunks()
    _write(known.select(["user_id"]), scratch / IDS)
    places = np.full(pc.max(table["user_index"]).as_py() + 1 if len(table) else 0, -1, dtype=np.int32)
    places[known["user_index"].to_numpy()] = np.arange(len(known), dtype=np.int32)
    np.save(scratch / PLACES, places)
    return len(known)


def _row_groups(table: str, folder: Path) -> Iterator[RowGroup]:
    for file in sorted(folder.glob("*.parquet")):
        metadata = pq.read_metadata(file)
        for group in range(metadata.num_row_groups):
            yield RowGroup(table, file, group, metadata.row_group(group).total_byte_size)


def _shares(groups: Iterable[RowGroup]) -> list[list[RowGroup]]:
    """Row groups of one table each, as many as are sorted at once."""
    shares: list[list[RowGroup]] = []
    left = 0
    for group in groups:
        if not shares or shares[-1][0].table != group.table or group.nbytes > left:
            shares.append([])
            left = BYTES_PER_SHARE
        shares[-1].append(group)
        left -= group.nbytes
    return shares


def _packed(
    share: Sequence[RowGroup], places: Indexes, at_seconds: float, half_lives_days: Floats, horizon_days: float
) -> pa.Table:
    """What counts tonight of some row groups of a table, by the place of the user."""
    table, parts = share[0].table, []
    for group in share:
        with pq.ParquetFile(group.file) as stored:
            for rows in stored.iter_batches(READ_ROWS, row_groups=[group.number], columns=[*COLUMNS[table]]):
                if table == "memory":
                    pairs = remembered.pack(rows, at_seconds, half_lives_days, horizon_days)
                    columns = {"pairs": pa.Array.from_buffers(PACKED, len(pairs), [None, pa.py_buffer(pairs)])}
                else:
                    anchors = arrow.seconds(rows.column("anchor_time"))
                    columns = {"anchor_seconds": pa.array(anchors), "readouts": rows.column("readouts")}
                parts.append(pa.table({"place": places[rows.column("user_index").to_numpy()], **columns}))
    packed = pa.concat_tables(parts)
    place = packed["place"].to_numpy()
    by_place = np.argsort(place, kind="stable")
    return packed.take(by_place[np.searchsorted(place, 0, sorter=by_place) :])


def _unpacked(pairs: pa.FixedSizeBinaryArray) -> Pairs:
    whole = np.frombuffer(pairs.buffers()[1], dtype=remembered.PAIR)
    return whole[pairs.offset : pairs.offset + len(pairs)]


def _write(table: pa.Table, path: Path) -> None:
    """Write rows as one batch."""
    batches = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_batch(batches[0])


def _mapped(path: Path) -> pa.RecordBatch:
    """The rows that `_write` wrote, of which only those are read that are looked at."""
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
