"""The memory of (user, item) pairs, added up from their events in Arrow columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import arrow, schemas
from halflife.memory import NEVER, Pace, States, faded_on, fold

# A state's fields, in the order in which the states of a pair are sorted: by time first.
FIELDS = (
    "anchor_time",
    "event_count",
    "revived",
    "positive",
    "negative",
    "leading_time",
    "leading_type",
    "leading",
)


def merge(states: DataFrame, pace: Pace, faded_below: float) -> DataFrame:
    """Add up the states of each pair, in the columns of `schemas.MEMORY`.

    `states` holds any number of rows a pair, with the columns of `schemas.MEMORY` but `faded_on`: a stored state, and
    the jumps of single events (event_count 1, not revived, leading themselves). They are folded in the order of time.

    A pair is revived where its newest event ended a silence of at least `pace.silence_days` in which its positive
    memory had faded below `pace.retained_share` of what it was.
    """
    parts = states.groupBy("user_index", "item_index").agg(
        F.array_sort(F.collect_list(F.struct(*FIELDS))).alias("parts")
    )

    def add_up(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            merged = fold(_states(batch.column("parts")), _lengths(batch.column("parts")), pace)
            yield _rows(batch, merged, faded_on(merged, pace, faded_below))

    return parts.mapInArrow(add_up, schemas.MEMORY)


def _lengths(parts: pa.ListArray) -> NDArray[np.int64]:
    return np.asarray(parts.value_lengths(), dtype=np.int64)


def _states(parts: pa.ListArray) -> States:
    rows = parts.flatten()

    def numbers(name: str) -> NDArray[Any]:
        column: NDArray[Any] = rows.field(name).to_numpy(zero_copy_only=False)
        return column

    def times(name: str) -> NDArray[np.int64]:
        column: NDArray[np.int64] = rows.field(name).cast(pa.int64()).to_numpy(zero_copy_only=False)
        return column

    def channels(name: str) -> NDArray[np.float64]:
        return arrow.matrix(rows.field(name))

    return States(
        time=times("anchor_time"),
        events=numbers("event_count"),
        revived=numbers("revived"),
        positive=channels("positive"),
        negative=channels("negative"),
        leading_time=times("leading_time"),
        leading_type=numbers("leading_type"),
        leading=channels("leading"),
    )


def _rows(keys: pa.RecordBatch, states: States, nights: NDArray[np.int64]) -> pa.RecordBatch:
    columns = {
        "user_index": keys.column("user_index"),
        "item_index": keys.column("item_index"),
        "anchor_time": pa.array(states.time),
        "positive": arrow.lists(states.positive),
        "negative": arrow.lists(states.negative),
        "event_count": pa.array(states.events),
        "revived": pa.array(states.revived),
        "leading_time": pa.array(states.leading_time),
        "leading_type": pa.array(states.leading_type),
        "leading": arrow.lists(states.leading),
        "faded_on": pa.array(nights.astype(np.int32), mask=nights == NEVER),
    }
    schema = to_arrow_schema(schemas.MEMORY)
    return pa.RecordBatch.from_arrays([columns[field.name].cast(field.type) for field in schema], schema=schema)
