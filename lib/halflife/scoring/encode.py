"""The two places where a model meets rows: read-outs of active users, and jumps of new events (Arrow UDFs)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from halflife import arrow, schemas
from halflife.model import artifact
from halflife.model.artifact import Model

# What a jump is made of, and what a read-out is made of.
EVENT_COLUMNS: Final = (
    "item_index",
    "type_index",
    "strength",
    "gap_seconds",
    "revisit_gap_seconds",
    "revisit_count",
    "session_position",
)
ARRAY_COLUMNS: Final = tuple(field.name for field in schemas.SEQUENCES if isinstance(field.dataType, T.ArrayType))


@lru_cache(maxsize=1)
def _model(directory: Path) -> Model:
    """The model of a folder, loaded once in each Python worker process."""
    return artifact.load(directory)


def user_states(sequences: DataFrame, model_directory: Path) -> DataFrame:
    """Read-outs of users from their sequences, in the columns of `schemas.USER_STATES`."""

    def encode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = _model(model_directory)
        for batch in batches:
            columns = {name: arrow.matrix(batch.column(name)) for name in ARRAY_COLUMNS}
            readouts = model.encode({**columns, "length": batch.column("length").to_numpy()})
            arrays = [
                batch.column("user_index"),
                batch.column("last_event_time"),
                arrow.lists(readouts.reshape(batch.num_rows, -1)),
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=schemas.USER_STATES.names)

    inputs = sequences.select("user_index", "last_event_time", "length", *ARRAY_COLUMNS)
    return inputs.mapInArrow(encode, schemas.USER_STATES)


def jumps(events: DataFrame, model_directory: Path) -> DataFrame:
    """Each event's jump as a state of its pair, in the columns of `schemas.MEMORY` but `faded_on`."""
    schema = T.StructType([field for field in schemas.MEMORY if field.name != "faded_on"])
    names = ("user_index", *EVENT_COLUMNS)

    def jump(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = _model(model_directory)
        for batch in batches:
            columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in names}
            values, positive = model.jumps(columns), (columns["strength"] > 0)[:, None]
            arrays = [
                batch.column("user_index"),
                batch.column("item_index"),
                batch.column("anchor_time"),
                arrow.lists(values * positive),
                arrow.lists(values * ~positive),
                pa.array(np.ones(batch.num_rows, dtype=np.int64)),
                pa.array(np.zeros(batch.num_rows, dtype=bool)),
                batch.column("anchor_time"),
                batch.column("type_index"),
                arrow.lists(values * positive),
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=schema.names)

    inputs = events.withColumnRenamed("event_time", "anchor_time")
    return inputs.select(*names, "anchor_time").mapInArrow(jump, schema)
