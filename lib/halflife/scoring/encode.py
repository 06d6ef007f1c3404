"""Read-outs of active users (an Arrow UDF)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from halflife import arrow, schemas
from halflife.scoring.update import model_of

ARRAY_COLUMNS: Final = tuple(field.name for field in schemas.SEQUENCES if isinstance(field.dataType, T.ArrayType))


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

    inputs = sequences.select("user_index", "last_event_time", "length", *ARRAY_COLUMNS)
    return inputs.mapInArrow(encode, schemas.USER_STATES)
