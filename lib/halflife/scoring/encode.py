"""Read-outs of active users (Arrow UDFs)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import arrow, schemas
from halflife.scoring.bands import by_band
from halflife.scoring.update import model_of

ARRAY_COLUMNS: Final = tuple(field.name for field in schemas.SEQUENCES if isinstance(field.dataType, T.ArrayType))
INPUTS: Final = T.StructType([field for field in schemas.SEQUENCES if field.name != "user_id"])


def sequences_of(active: DataFrame, files: Mapping[int, Path], users_per_file: int, tasks: int) -> DataFrame:
    """The sequences of some users (user_index), in the columns of INPUTS; `files` have so many users each, by band.

    The tasks read the files themselves and keep the few rows that are asked for: Spark's own reader takes the night's
    first seconds to compile what unfolds the arrays, and twice the time for everyone's.
    """

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for band, users in by_band(batches):
            if band in files:
                yield from read_users(files[band], pa.concat_tables(users))

    banded = active.select("user_index", F.floor(F.col("user_index") / users_per_file).cast("int").alias("band"))
    return banded.repartition(tasks, "band").sortWithinPartitions("band").mapInArrow(read, INPUTS)


def read_users(path: Path, users: pa.Table) -> Iterator[pa.RecordBatch]:
    """The rows of some users (user_index) of a file of sequences, in the columns of INPUTS."""
    schema = to_arrow_schema(INPUTS)
    with pq.ParquetFile(path, memory_map=True) as file:
        groups = range(file.metadata.num_row_groups)
        for rows in arrow.rows_of(file, groups, users["user_index"].to_numpy(), schema.names):
            yield from rows.select(schema.names).cast(schema).to_batches()


def user_states(sequences: DataFrame, model_directory: Path) -> DataFrame:
    """Read-outs of users from their sequences, in the columns of `schemas.USER_STATES`."""

    def encode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = model_of(model_directory)
        for batch in batches:
            columns = {name: arrow.matrix(batch.column(name)) for name in ARRAY_COLUMNS}
            readouts = model.encode({**columns, "length": batch.column("length").to_numpy()})
            arrays = [
                batch.column("user_index"),
                batch.column("last_event_time"),
                arrow.lists(readouts.reshape(batch.num_rows, -1)),
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=schemas.USER_STATES.names)

    return sequences.select(*INPUTS.names).mapInArrow(encode, schemas.USER_STATES)
