"""What a night walks again: its own records, and the events published from the first day on that it touches.

Each function gives rows in the columns of `schemas.HISTORY`. What these must know of the events before the window, the
walk looks up itself (`halflife.histories.past`).
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from halflife import schemas

NEW, PUBLISHED = 0, 1  # roles


def of_records(records: DataFrame, users: DataFrame, items: DataFrame, files: DataFrame, bucket: Column) -> DataFrame:
    """Tonight's accepted records; `files` has a file_index for each (source, source_file)."""
    placed = (
        records.join(items.select("item_id", "item_index"), on="item_id", how="inner")
        .join(users.select("user_id", "user_index"), on="user_id", how="inner")
        .join(F.broadcast(files), on=["source", "source_file"], how="inner")
    )
    return _history(placed, NEW, bucket)


def of_published(events: DataFrame, files: DataFrame, bucket: Column) -> DataFrame:
    """Published events of the window, in the columns of a record (`duplicates.published`) with their indexes."""
    return _history(events.join(F.broadcast(files), on=["source", "source_file"], how="inner"), PUBLISHED, bucket)


def _history(rows: DataFrame, role: int, bucket: Column) -> DataFrame:
    """Rows in the columns of `schemas.HISTORY`."""
    made = rows.withColumns({"bucket": bucket, "role": F.lit(role)})
    return made.select(*(F.col(field.name).cast(field.dataType) for field in schemas.HISTORY))


def in_order(history: DataFrame, partitions: int) -> DataFrame:
    """The rows as the walk wants them: whole buckets in a partition, each user's events in their total order."""
    # Spark compares the first 8 bytes of a sort without looking at the rows: user and second decide nearly always.
    second = F.greatest(F.lit(0), F.least(F.unix_seconds("event_time"), F.lit(2**32 - 1)))
    user_and_second = F.shiftleft(F.col("user_index").cast("bigint"), 32).bitwiseOR(second)
    unsigned = F.col("event_key").bitwiseXOR(F.lit(-(2**63)))
    event_id = F.coalesce("event_id", F.lit("~")) if "event_id" in history.columns else F.lit("~")
    return history.repartition(partitions, "bucket").sortWithinPartitions(
        user_and_second, "event_time", event_id, unsigned, F.desc("role"), "file_index"
    )
