"""The two places where a model meets rows: read-outs of active users, and jumps of new events (pandas UDFs)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from halflife import schemas
from halflife.model import artifact
from halflife.model.artifact import Model

# What a jump is made of, and what a read-out is made of.
EVENT_COLUMNS = (
    "item_index",
    "type_index",
    "strength",
    "gap_seconds",
    "revisit_gap_seconds",
    "revisit_count",
    "session_position",
)
ARRAY_COLUMNS = tuple(field.name for field in schemas.SEQUENCES if isinstance(field.dataType, T.ArrayType))


@lru_cache(maxsize=1)
def _model(directory: Path) -> Model:
    """The model of a folder, loaded once in each Python worker process."""
    return artifact.load(directory)


def user_states(sequences: DataFrame, model_directory: Path) -> DataFrame:
    """Read-outs of users from their sequences, in the columns of `schemas.USER_STATES`."""

    def encode(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        model = _model(model_directory)
        for batch in batches:
            columns = {name: np.stack(batch[name].to_list()) for name in ARRAY_COLUMNS}
            readouts = model.encode({**columns, "length": batch["length"].to_numpy()})
            yield pd.DataFrame(
                {
                    "user_index": batch["user_index"],
                    "anchor_time": batch["last_event_time"],
                    "readouts": list(readouts.reshape(len(batch), -1)),
                }
            )

    inputs = sequences.select("user_index", "last_event_time", "length", *ARRAY_COLUMNS)
    return inputs.mapInPandas(encode, schemas.USER_STATES)


def jumps(events: DataFrame, model_directory: Path) -> DataFrame:
    """Each event's jump as a state of its pair, in the columns of `schemas.MEMORY`."""

    def jump(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        model = _model(model_directory)
        for batch in batches:
            values = model.jumps({name: batch[name].to_numpy() for name in ("user_index", *EVENT_COLUMNS)})
            sign = np.sign(batch["strength"].to_numpy())[:, None]
            yield pd.DataFrame(
                {
                    "user_index": batch["user_index"],
                    "item_index": batch["item_index"],
                    "anchor_time": batch["anchor_time"],
                    "positive": list(values * (sign > 0)),
                    "negative": list(values * (sign < 0)),
                    "event_count": 1,
                    "revived": False,
                }
            )

    inputs = events.withColumnRenamed("event_time", "anchor_time")
    return inputs.select("user_index", "anchor_time", *EVENT_COLUMNS).mapInPandas(jump, schemas.MEMORY)
