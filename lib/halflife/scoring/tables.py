"""The nightly tables, written by the tasks themselves as Arrow columns: every pair's score, and each user's best items.

Spark hands each task its users with their states; the task computes their blocks and writes the files. What comes back
to the driver is one row a file, so neither rows nor scores ever pass through the JVM.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife.decay import Floats, probability
from halflife.model.artifact import ItemSide
from halflife.scoring import pairs
from halflife.scoring.pairs import Indexes, Matrix, States
from halflife.topn import top_columns

# One row is one file that a task has written: its table, its name, and what the audit asks about its rows.
WRITTEN = T.StructType(
    [
        T.StructField("table", T.StringType(), False),
        T.StructField("file", T.StringType(), False),
        T.StructField("rows", T.LongType(), False),
        T.StructField("lowest", T.DoubleType(), False),
        T.StructField("highest", T.DoubleType(), False),
    ]
)

# Large enough for the ids of a million items, which every row group names once.
DICTIONARY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Night:
    """What every block of users needs to know of the night: small enough to travel with the tasks.

    The items stand in the order in which a user's rows are written: `ids` (I,) and their side of the model.
    """

    at_seconds: float
    half_lives_days: Floats
    horizon_days: float
    ids: pa.Array
    position: Indexes  # row of an item index in that order
    side: ItemSide
    top_n: int


def in_item_order(items: pd.DataFrame, side: ItemSide) -> tuple[pa.Array, Indexes, ItemSide]:
    """Ids in their order, the place of each item index among them, and the model's side in the same order."""
    ordered = items.sort_values("item_id", kind="stable")
    index = ordered["item_index"].to_numpy()
    position = np.empty(len(index), dtype=np.int32)
    position[index] = np.arange(len(index), dtype=np.int32)
    return pa.array(ordered["item_id"], pa.string()), position, ItemSide(side.bias[index], side.vectors[index])


def with_states(users: DataFrame, user_states: DataFrame, memory: DataFrame) -> DataFrame:
    """One row a user with its states: user_id, readouts, anchor_time (both null without events), pairs."""
    remembered = memory.groupBy("user_index").agg(
        F.sort_array(
            F.collect_list(F.struct("item_index", "anchor_time", "positive", "negative", "event_count"))
        ).alias("pairs")
    )
    return (
        users.join(user_states, on="user_index", how="left")
        .join(remembered, on="user_index", how="left")
        .select("user_id", "readouts", "anchor_time", "pairs")
    )


def write(stated: DataFrame, night: Night, folders: dict[str, Path], users_per_block: int, tasks: int) -> list[Row]:
    """Write the scores and the recommendations of all users; returns the files, in the columns of `WRITTEN`.

    `stated` is what `with_states` makes. Each task writes the users of one range of ids, in their order, one row group
    a block of `users_per_block`. A task that is retried, or run twice by speculation, writes files of other names:
    those that no task returned are removed here, before anything is published.
    """

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with _Files(folders) as files:
            for batch in batches:
                for start in range(0, batch.num_rows, users_per_block):
                    _write_block(batch.slice(start, users_per_block), night, files)
        yield from files.written()

    for folder in folders.values():
        folder.mkdir()
    ordered = stated.repartitionByRange(tasks, "user_id").sortWithinPartitions("user_id")
    written = ordered.mapInArrow(score, WRITTEN).collect()
    kept = {(row["table"], row["file"]) for row in written}
    for table, folder in folders.items():
        for file in folder.iterdir():
            if (table, file.name) not in kept:
                file.unlink()
    return written


class _Files:
    """The files of one task, one a table, opened when the first block comes."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self.name = f"part-{uuid.uuid4().hex}.parquet"
        self.writers: dict[str, pq.ParquetWriter] = {}
        self.rows: dict[str, int] = {}
        self.range: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self.writers.values():
            writer.close()

    def write(self, table: str, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        if table not in self.writers:
            self.writers[table] = pq.ParquetWriter(
                self.folders[table] / self.name,
                rows.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=[name for name in rows.column_names if not pa.types.is_floating(rows.field(name).type)],
                dictionary_pagesize_limit=DICTIONARY_BYTES,
                store_schema=False,
            )
        self.writers[table].write_table(rows, row_group_size=rows.num_rows)
        # NumPy's minimum and maximum, unlike Python's, stay NaN once a score is: the audit must see it.
        low, high = self.range.get(table, (np.inf, -np.inf))
        scores = rows.column("score").to_numpy()
        self.range[table] = (float(np.minimum(low, scores.min())), float(np.maximum(high, scores.max())))
        self.rows[table] = self.rows.get(table, 0) + rows.num_rows

    def written(self) -> Iterator[pa.RecordBatch]:
        rows = [(table, self.name, self.rows[table], *self.range[table]) for table in self.writers]
        columns = zip(*rows, strict=True) if rows else ([] for _ in WRITTEN)
        kinds = (pa.string(), pa.string(), pa.int64(), pa.float64(), pa.float64())
        arrays = [pa.array(list(column), kind) for column, kind in zip(columns, kinds, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, names=WRITTEN.names)


def _write_block(users: pa.RecordBatch, night: Night, files: _Files) -> None:
    """Score one block of users against every item and write its rows."""
    states, counts = _states(users, night)
    at = np.full(users.num_rows, night.at_seconds)
    affinity = pairs.affinity(
        states, at, night.half_lives_days, night.horizon_days, night.side.vectors, night.side.bias
    )
    remembered = pairs.memory(states, at, night.half_lives_days, night.horizon_days)
    expected = pairs.add_memory(affinity.copy(), states, remembered)
    sparse = np.zeros_like(affinity)
    sparse[states.user, states.item] = remembered
    score = probability(expected)
    ids = users.column("user_id")
    files.write("scores", _score_rows(ids, night.ids, score, affinity, sparse))
    files.write("recommendations", _best_rows(ids, night, expected, score, states, counts, sparse))


def _states(users: pa.RecordBatch, night: Night) -> tuple[States, Indexes]:
    """The block's states as arrays, and the event count of each pair."""
    channels = len(night.half_lives_days)
    size = night.side.vectors.shape[1]
    readouts = np.zeros((users.num_rows, channels, size), dtype=np.float32)
    anchors = np.full(users.num_rows, -np.inf)
    known = np.asarray(users.column("anchor_time").is_valid())
    if known.any():
        flat = users.column("readouts").drop_null().flatten().to_numpy(zero_copy_only=False)
        readouts[known] = flat.reshape(-1, channels, size)
        anchors[known] = _seconds(users.column("anchor_time").drop_null())
    nested = users.column("pairs")
    lengths = nested.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    rows = nested.flatten()
    state = States(
        readouts=readouts,
        anchor_seconds=anchors,
        user=pairs.block_of(lengths),
        item=night.position[rows.field("item_index").to_numpy(zero_copy_only=False)],
        pair_seconds=_seconds(rows.field("anchor_time")),
        positive=_channels(rows.field("positive"), channels),
        negative=_channels(rows.field("negative"), channels),
    )
    return state, rows.field("event_count").to_numpy(zero_copy_only=False)


def _seconds(times: pa.Array) -> Floats:
    micros = times.cast(pa.int64()).to_numpy(zero_copy_only=False)
    seconds: Floats = micros / 1e6
    return seconds


def _channels(values: pa.Array, channels: int) -> Floats:
    flat: Floats = values.flatten().to_numpy(zero_copy_only=False).reshape(-1, channels)
    return flat


def _score_rows(users: pa.Array, items: pa.Array, score: Matrix, affinity: Matrix, memory: Matrix) -> pa.Table:
    """The block's pairs in the columns of `schemas.SCORES`: user by user, items in their order."""
    blocks, width = score.shape
    user_codes = pa.array(np.repeat(np.arange(blocks, dtype=np.int32), width))
    item_codes = pa.array(np.tile(np.arange(width, dtype=np.int32), blocks))
    return pa.table(
        {
            "user_id": pa.DictionaryArray.from_arrays(user_codes, users),
            "item_id": pa.DictionaryArray.from_arrays(item_codes, items),
            "score": pa.array(score.ravel()),
            "affinity": pa.array(affinity.ravel()),
            "memory": pa.array(memory.ravel()),
        }
    )


def _best_rows(
    users: pa.Array,
    night: Night,
    expected: Matrix,
    score: Matrix,
    states: States,
    counts: Indexes,
    memory: Matrix,
) -> pa.Table:
    """Each user's best items in the columns of `schemas.RECOMMENDATIONS`: those of which anything is expected."""
    best = top_columns(expected, night.top_n)  # equal expectations stand in the order of their ids
    user, rank = np.divmod(np.arange(best.size, dtype=np.int32), np.int32(best.shape[1]))
    hoped = expected[user, best.ravel()] > 0
    user, rank, item = user[hoped], rank[hoped], best.ravel()[hoped]
    pair = _pair_of(states, user, item, expected.shape[1])
    share = memory[user, item] / np.maximum(expected[user, item], np.finfo(np.float32).tiny)
    return pa.table(
        {
            "user_id": users.take(pa.array(user)),
            "rank": pa.array(rank + np.int32(1)),
            "item_id": night.ids.take(pa.array(item)),
            "score": pa.array(score[user, item]),
            "reason": pa.array(_reasons(pair, share, states.pair_seconds, counts), pa.string()),
        }
    )


def _pair_of(states: States, user: Indexes, item: Indexes, items: int) -> Indexes:
    """The place of (user, item) pairs among the block's remembered pairs, -1 where there is none."""
    if not len(states.user):
        return np.full(len(user), -1, dtype=np.int32)
    keys = states.user.astype(np.int64) * items + states.item
    order = np.argsort(keys)
    wanted = user.astype(np.int64) * items + item
    found = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[found] == wanted, found, -1).astype(np.int32)


def _reasons(pair: Indexes, share: Matrix, pair_seconds: Floats, counts: Indexes) -> Sequence[str]:
    """Why an item is among the best: the pair's own past where it gives most of the strength, else the affinity."""
    return [
        _own_past(int(counts[place]), float(pair_seconds[place]), float(part))
        if place >= 0 and part >= 0.5
        else "popular with similar histories"
        for place, part in zip(pair.tolist(), share.tolist(), strict=True)
    ]


def _own_past(events: int, last_seconds: float, share: float) -> str:
    day = datetime.fromtimestamp(last_seconds, UTC).date()
    times = "1 event" if events == 1 else f"{events} events"
    return f"{times}, last on {day}: {min(share, 1.0):.0%} of the interest"
