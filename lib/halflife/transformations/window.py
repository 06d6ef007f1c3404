"""What a night walks again: the window of events from the first day that it touches, and what was known before.

Each function gives rows in the columns of `schemas.HISTORY`. Of what lies before the window only so much is taken as
the window's own columns depend on: the recent past, where a session may go on; and of all that is older the last
event of each (user, item) pair and of each user, whose values were published and hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from halflife import schemas

NEW, PUBLISHED, CONTEXT = 0, 1, 2  # roles
# An item that no event has: the last event of a user stands for a time alone.
NO_ITEM = 2**31 - 1
# What only context rows carry: null for all others.
PUBLISHED_COLUMNS = ("session_start", "session_position", "revisit_count")


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


def recent(events: DataFrame, users: DataFrame, bucket: Column) -> DataFrame:
    """Context: those of the published `events` that belong to `users` (user_index) of the window."""
    of_users = events.join(users, on="user_index", how="left_semi")
    return _published(of_users, bucket)


def last_of_pairs(events: DataFrame, pairs: DataFrame, bucket: Column) -> DataFrame:
    """Context: when the `pairs` (user_index, item_index) of the window were last seen before, and how often."""
    narrow = events.select("user_index", "item_index", "event_time", "revisit_count")
    last = (
        narrow.join(pairs, on=["user_index", "item_index"], how="left_semi")
        .groupBy("user_index", "item_index")
        .agg(F.max("event_time").alias("event_time"), F.max("revisit_count").alias("revisit_count"))
    )
    return _bare(last, bucket)


def given_sessions(events: DataFrame, rows: DataFrame, bucket: Column) -> DataFrame:
    """Context: those of the published `events` whose session, given by the log, goes on in `rows` of the window."""
    going_on = rows.where(F.col("given_session_id").isNotNull()).select(
        "user_index", F.col("given_session_id").alias("session_id")
    )
    found = events.where("session_given").join(going_on, on=["user_index", "session_id"], how="left_semi")
    return _published(found, bucket)


def last_of_users(window: DataFrame | None, sequences: DataFrame, users: DataFrame, bucket: Column) -> DataFrame:
    """Context: when the `users` of the window had their last event before it.

    A user with published events in the `window` had it by the gap before the first of them; of everyone else it is the
    last event of the published `sequences`.
    """
    others = sequences.select("user_index", F.col("last_event_time").alias("event_time"))
    last = others = others.join(users, on="user_index", how="left_semi")
    if window is not None:
        first = window.groupBy("user_index").agg(
            F.min_by("gap_seconds", F.struct("event_time", "event_id")).alias("gap_seconds"),
            F.min("event_time").alias("first_time"),
        )
        micros = F.unix_micros("first_time") - F.round(F.col("gap_seconds") * 1e6).cast("bigint")
        gone = first.where(F.col("gap_seconds").isNotNull())
        others = others.join(first, on="user_index", how="left_anti")
        last = others.unionByName(gone.select("user_index", F.timestamp_micros(micros).alias("event_time")))
    return _bare(last.withColumns({"item_index": F.lit(NO_ITEM), "revisit_count": F.lit(0)}), bucket)


def _published(events: DataFrame, bucket: Column) -> DataFrame:
    """Context rows of published events, with all that was found of them."""
    given = F.when(F.col("session_given"), F.col("session_id"))
    return _history(events.withColumn("given_session_id", given), CONTEXT, bucket, PUBLISHED_COLUMNS)


def _bare(last: DataFrame, bucket: Column) -> DataFrame:
    """Context rows that stand for a time and a count alone: their sessions are over."""
    return _history(
        last.withColumns({"session_start": F.col("event_time"), "session_position": F.lit(0)}),
        CONTEXT,
        bucket,
        PUBLISHED_COLUMNS,
    )


def _history(rows: DataFrame, role: int, bucket: Column, published: Sequence[str] = ()) -> DataFrame:
    """Rows in the columns of `schemas.HISTORY`; what they lack is null, or of no account for their role."""
    have = set(rows.columns)
    # Of a context row nobody reads these, but columns without nulls are read faster.
    unread = {"user_id": "", "event_key": 0, "repeats": 0, "type_index": 0, "strength": 0.0, "file_index": -1}
    unread |= {"dwell_imputed": False, "rating_imputed": False}
    columns = []
    for field in schemas.HISTORY:
        if field.name == "bucket":
            column = bucket
        elif field.name == "role":
            column = F.lit(role)
        elif field.name in PUBLISHED_COLUMNS and field.name not in published:
            column = F.lit(None)
        else:
            column = F.col(field.name) if field.name in have else F.lit(unread.get(field.name))
        columns.append(column.cast(field.dataType).alias(field.name))
    return rows.select(*columns)


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
