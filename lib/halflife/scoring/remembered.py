"""The remembered pairs of users, packed for their way to the tasks that score them.

A pair of the memory table has some twenty numbers in arrays, of which the JVM would make objects again and again.
Tonight only what is left of them counts: 32 bytes a pair, and the pairs of a user travel as one string of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import types as T

from halflife import arrow
from halflife.decay import SECONDS_PER_DAY, Floats
from halflife.scoring import pairs

# What is taken from the memory of a pair.
COLUMNS: Final = (
    "user_index",
    "item_index",
    "anchor_time",
    "positive",
    "negative",
    "event_count",
    "leading_time",
    "leading_type",
    "leading",
)
# One entry is a pair tonight: its expected strength over the horizon, and that of its leading event.
PAIR: Final = np.dtype(
    [
        ("item_index", np.int32),
        ("leading_type", np.int32),
        ("leading_day", np.int32),  # since 1970
        ("event_count", np.int32),
        ("strength", np.float64),
        ("leading_strength", np.float64),
    ]
)
Pairs = NDArray[np.void]

READ_ROWS: Final = 65_536

# One row is pairs of one user that stood together in the memory table.
PACKED: Final = T.StructType(
    [T.StructField("user_index", T.IntegerType(), False), T.StructField("pairs", T.BinaryType(), False)]
)


def row_groups(memory: Path) -> list[tuple[str, int]]:
    """File and number of each row group of the memory table in a folder: what one task reads at least."""
    files = sorted(memory.glob("*.parquet"))
    return [(str(file), group) for file in files for group in range(pq.read_metadata(file).num_row_groups)]


def read(file: Path, group: int) -> Iterator[pa.RecordBatch]:
    """The rows of a row group, in COLUMNS."""
    with pq.ParquetFile(file) as stored:
        yield from stored.iter_batches(READ_ROWS, row_groups=[group], columns=[*COLUMNS])


def pack(memory: pa.RecordBatch, at_seconds: float, half_lives_days: Floats, horizon_days: float) -> pa.RecordBatch:
    """Rows of the memory table (COLUMNS) as of an instant, in the columns of PACKED."""
    numbers = {name: memory.column(name).to_numpy(zero_copy_only=False) for name in ("user_index", "item_index")}
    anchor, leading_time = (arrow.seconds(memory.column(name)) for name in ("anchor_time", "leading_time"))
    channels = [arrow.matrix(memory.column(name), len(half_lives_days)) for name in ("positive", "negative", "leading")]
    positive, negative, leading = channels
    packed = np.empty(memory.num_rows, dtype=PAIR)
    packed["item_index"] = numbers["item_index"]
    packed["leading_type"] = memory.column("leading_type").to_numpy(zero_copy_only=False)
    packed["leading_day"] = leading_time // SECONDS_PER_DAY
    packed["event_count"] = memory.column("event_count").to_numpy(zero_copy_only=False)
    packed["strength"] = pairs.strength(positive - negative, at_seconds - anchor, half_lives_days, horizon_days)
    packed["leading_strength"] = pairs.strength(leading, at_seconds - leading_time, half_lives_days, horizon_days)
    users = numbers["user_index"]
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    offsets = pa.py_buffer((np.append(starts, len(users)) * PAIR.itemsize).astype(np.int32))
    strings = pa.Array.from_buffers(pa.binary(), len(starts), [None, offsets, pa.py_buffer(packed)])
    return pa.RecordBatch.from_arrays([pa.array(users[starts]), strings], names=PACKED.names)


def unpack(strings: pa.ListArray) -> tuple[pairs.Indexes, Pairs]:
    """The pairs of a block of users, each with any number of strings or null: the user of each, and the pairs."""
    packed = strings.flatten()
    found = np.frombuffer(b"".join(packed.to_pylist()), dtype=PAIR)
    of_user = strings.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    of_string = pc.binary_length(packed).to_numpy(zero_copy_only=False) // PAIR.itemsize
    return np.repeat(pairs.block_of(of_user), of_string), found
