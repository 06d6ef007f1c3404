"""The last events of each user, as training reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame

from halflife import schemas
from halflife.histories import sequences
from halflife.model.features import EVENT_COLUMNS

CHUNK_ROWS = 262_144
NEEDED = ("user_index", "user_id", "event_time", "event_id", *EVENT_COLUMNS)


def last_events(events: DataFrame, length: int) -> DataFrame:
    """One row a user: the last `length` of `events`, oldest first, in the columns of `schemas.TRAINING`."""

    def of_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return sequences.last_events(batches, length, CHUNK_ROWS)

    by_user = events.select(*NEEDED).repartition("user_index")
    in_order = by_user.sortWithinPartitions("user_index", "event_time", "event_id")
    return in_order.mapInArrow(of_partition, schemas.TRAINING)
