"""The last events of each user as arrays of one fixed length, which is what the network reads."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife import schemas
from halflife.transformations.sessions import ORDER


def last_events(events: DataFrame, length: int) -> DataFrame:
    """One row a user: the last `length` of `events`, oldest first, in the columns of `schemas.SEQUENCES`."""
    newest_first = Window.partitionBy("user_index").orderBy(*(F.desc(name) for name in ORDER))
    recent = events.withColumn("age", F.row_number().over(newest_first)).where(F.col("age") <= length)
    features = _features()
    rows = recent.groupBy("user_index", "user_id").agg(
        F.max("event_time").alias("last_event_time"),
        # Sorted by age (its first field) from old to new; the rows of one user are at most `length`.
        F.sort_array(
            F.collect_list(F.struct((-F.col("age")).alias("order"), *(c.alias(n) for n, c in features.items())))
        ).alias("rows"),
    )
    return rows.select(
        "user_index",
        "user_id",
        F.size("rows").alias("length"),
        "last_event_time",
        *(_padded(name, length).alias(name) for name in features),
    )


def _features() -> dict[str, Column]:
    """What the network sees of an event, by the column's name in `schemas.SEQUENCES`."""
    return {
        "item_index": F.col("item_index"),
        "type_index": F.col("type_index"),
        "strength": F.col("strength").cast("float"),
        "event_seconds": F.unix_micros("event_time") / 1_000_000.0,
        "gap_log": _log_seconds("gap_seconds"),
        "revisit_gap_log": _log_seconds("revisit_gap_seconds"),
        "revisit_count": F.col("revisit_count"),
        "session_position": F.col("session_position"),
        "hour": F.hour("event_time"),
        "weekday": F.weekday("event_time"),
    }


def _log_seconds(name: str) -> Column:
    return F.log1p(F.coalesce(name, F.lit(0.0))).cast("float")


def _padded(name: str, length: int) -> Column:
    """One feature of `rows` as an array with zeros behind its values, up to `length`."""
    declared = schemas.SEQUENCES[name].dataType
    assert isinstance(declared, T.ArrayType)
    kind = T.ArrayType(declared.elementType)
    zeros = F.array_repeat(F.lit(0), length).cast(kind)
    return F.slice(F.concat(F.col(f"rows.{name}").cast(kind), zeros), 1, length)
