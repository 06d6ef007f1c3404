"""The one place that builds a session."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

# Total order of a user's events: with equal times, the event's id decides.
ORDER = ("event_time", "event_id")


def assign(events: DataFrame, gap_seconds: float) -> DataFrame:
    """Add to each event its session and its place among the user's events.

    Takes all events of the users in `events` (user_id, item_id, event_time, event_id, given_session_id, ...) and adds
    `session_id`, `session_given`, `session_position` (0-based), `gap_seconds` since the user's previous event,
    `revisit_gap_seconds` since the user's previous event on the same item (both null at the first) and
    `revisit_count`, the number of those.

    A gap larger than `gap_seconds` starts a session, a gap of exactly that does not. An event that comes with a session
    id of its own belongs to that session. Other sessions are named by user and first event time, so that their ids
    stay the same whatever else is in the log.
    """
    of_user = Window.partitionBy("user_id").orderBy(*ORDER)
    of_item = Window.partitionBy("user_id", "item_id").orderBy(*ORDER)
    located = events.select(
        "*",
        _seconds_since(F.lag("event_time").over(of_user)).alias("gap_seconds"),
        _seconds_since(F.lag("event_time").over(of_item)).alias("revisit_gap_seconds"),
        (F.row_number().over(of_item) - 1).alias("revisit_count"),
    )
    in_session = Window.partitionBy("user_id", "session_id").orderBy(*ORDER)
    return (
        _with_session_start(located, gap_seconds)
        .withColumn("session_given", F.col("given_session_id").isNotNull())
        .withColumn("session_id", F.coalesce("given_session_id", _session_name()))
        .withColumn("session_position", F.row_number().over(in_session) - 1)
        .drop("session_start", "given_session_id")
    )


def summarise(events: DataFrame, gap_seconds: float) -> DataFrame:
    """One row a session of `events`, in the columns of `schemas.SESSIONS`.

    Engaged time is the dwell where it is known, else the gap to the session's previous event, capped at `gap_seconds`.
    """
    gap = F.when(F.col("session_position") == 0, 0.0).otherwise(F.least("gap_seconds", F.lit(gap_seconds)))
    return events.groupBy("session_id", "user_id", "user_index").agg(
        F.min("event_time").alias("start_time"),
        F.max("event_time").alias("end_time"),
        F.count(F.lit(1)).alias("events"),
        F.count_distinct("item_id").alias("items"),
        F.sum(F.coalesce("dwell_seconds", gap)).alias("engaged_seconds"),
    )


def _with_session_start(events: DataFrame, gap_seconds: float) -> DataFrame:
    """Add `session_start`: the time of the last event after a gap, among those without a session of their own."""
    unnamed = Window.partitionBy("user_id", F.col("given_session_id").isNull()).orderBy(*ORDER)
    gap = _seconds_since(F.lag("event_time").over(unnamed))
    starts = F.when(gap.isNull() | (gap > gap_seconds), F.col("event_time"))
    so_far = unnamed.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    return (
        events.withColumn("starts", starts)
        .withColumn("session_start", F.last("starts", ignorenulls=True).over(so_far))
        .drop("starts")
    )


def _seconds_since(earlier: Column) -> Column:
    return (F.unix_micros("event_time") - F.unix_micros(earlier)) / 1_000_000.0


def _session_name() -> Column:
    """The same for the same user and start whatever else is in the log, and free of the user's id."""
    digest = F.xxhash64("user_id", F.unix_micros("session_start"))
    return F.lpad(F.hex(digest), 16, "0")
