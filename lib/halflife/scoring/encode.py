"""Read-outs of users from their sequences (Arrow UDFs)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import arrow, schemas
from halflife.histories.rows import Small, next_chunk
from halflife.model.artifact import Model
from halflife.scoring.update import model_of

ARRAY_COLUMNS: Final = tuple(field.name for field in schemas.SEQUENCES if isinstance(field.dataType, T.ArrayType))
INPUTS: Final = T.StructType([field for field in schemas.SEQUENCES if field.name != "user_id"])
# Those whose events are all gone have none.
STATES: Final = T.StructType([T.StructField(field.name, field.dataType) for field in schemas.USER_STATES])
USERS_AT_ONCE: Final = 2_048  # the network takes users of like length together: the more, the fuller its blocks


@dataclass(frozen=True)
class Sequences:
    """Where a night's sequences are."""

    active: Sequence[Path]  # files of the users with new events tonight
    everyone: Mapping[int, Path]  # and of all users, by bucket
    users_per_file: int  # of a bucket


def active_states(users: DataFrame, sequences: Sequences, tasks: int, model_directory: Path) -> DataFrame:
    """Read-outs of some users (user_index, in any number of rows), in the columns of STATES.

    The tasks read the files themselves and keep the rows that are asked for: Spark's own reader takes the night's first
    seconds to compile what unfolds the arrays, which so never become rows of Spark.
    """

    def encode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = model_of(model_directory)
        asked = pa.Table.from_batches(batches, pa.schema([("user_index", pa.int32()), ("bucket", pa.int32())]))
        gone: Small = np.unique(asked["user_index"])
        found = read_users(gone, sequences)
        while chunk := next_chunk(found, USERS_AT_ONCE):
            states = _read_out(pa.Table.from_batches(chunk).combine_chunks().to_batches()[0], model)
            gone = np.setdiff1d(gone, states["user_index"], assume_unique=True)
            yield states
        nothing = [pa.nulls(len(gone), kind) for kind in (pa.timestamp("us", "UTC"), pa.list_(pa.float32()))]
        yield pa.RecordBatch.from_arrays([pa.array(gone), *nothing], names=STATES.names)

    bucket = F.floor(F.col("user_index") / sequences.users_per_file).cast("int").alias("bucket")
    return users.select("user_index", bucket).repartition(tasks, "bucket").mapInArrow(encode, STATES)


def read_users(users: Small, sequences: Sequences) -> Iterator[pa.RecordBatch]:
    """The sequences of some users (sorted), in the columns of INPUTS.

    Whom the files of the active users do not have, as after a missed night, is looked up in those of everyone.
    """
    schema = to_arrow_schema(INPUTS)
    for path in sequences.active:
        for rows in arrow.rows_of(path, users, schema.names):
            users = np.setdiff1d(users, rows["user_index"], assume_unique=True)
            yield from rows.select(schema.names).cast(schema).to_batches()
    bucket = users // sequences.users_per_file
    for number in np.unique(bucket):
        if number in sequences.everyone:
            for rows in arrow.rows_of(sequences.everyone[number], users[bucket == number], schema.names):
                yield from rows.select(schema.names).cast(schema).to_batches()


def user_states(sequences: DataFrame, model_directory: Path) -> DataFrame:
    """Read-outs of all users from their sequences, in the columns of `schemas.USER_STATES`."""

    def encode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = model_of(model_directory)
        return (_read_out(batch, model) for batch in batches)

    return sequences.select(*INPUTS.names).mapInArrow(encode, schemas.USER_STATES)


def _read_out(sequences: pa.RecordBatch, model: Model) -> pa.RecordBatch:
    """The states of users from their sequences (INPUTS)."""
    columns = {name: arrow.matrix(sequences.column(name)) for name in ARRAY_COLUMNS}
    readouts = model.encode({**columns, "length": sequences.column("length").to_numpy()})
    arrays = [
        sequences.column("user_index"),
        sequences.column("last_event_time"),
        arrow.lists(readouts.reshape(sequences.num_rows, -1)),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=schemas.USER_STATES.names)
