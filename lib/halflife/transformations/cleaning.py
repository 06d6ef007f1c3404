"""Judging raw records: every record is accepted, quarantined with a reason, or a duplicate."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from halflife.config import EventTypeConfig, SessionizeConfig
from halflife.nights import instant

# What makes two records the same event where the log has no event id of its own.
KEY = ("user_id", "item_id", "event_type", "event_time", "given_session_id", "dwell_seconds", "rating")


def judge(raw: DataFrame, as_of: date, types: Mapping[str, EventTypeConfig], config: SessionizeConfig) -> DataFrame:
    """Add `reason` to raw records: why a record is rejected, null where it is accepted; the first rule that fits."""
    floor, end = F.lit(instant(config.event_time_floor)), F.lit(instant(as_of))
    blank = {name: F.trim(F.coalesce(F.col(name), F.lit(""))) == "" for name in ("user_id", "item_id", "time_text")}
    dwell, rating = F.col("dwell_seconds"), F.col("rating")
    rules: list[tuple[str, Column]] = [
        ("malformed_line", F.col("malformed").isNotNull()),
        ("missing_user", blank["user_id"]),
        ("missing_item", blank["item_id"]),
        ("missing_time", blank["time_text"]),
        ("unparsable_time", F.col("event_time").isNull()),
        ("time_before_floor", F.col("event_time") < floor),
        ("time_after_as_of", F.col("event_time") >= end),
        ("unknown_event_type", ~F.coalesce(F.col("event_type").isin(*types), F.lit(False))),
        ("unparsable_dwell", F.col("dwell_text").isNotNull() & (dwell.isNull() | F.isnan(dwell))),
        ("dwell_out_of_range", (dwell < 0) | (dwell > config.max_dwell_seconds)),
        ("unparsable_rating", F.col("rating_text").isNotNull() & (rating.isNull() | F.isnan(rating))),
    ]
    reason = F.lit(None).cast("string")
    for name, broken in reversed(rules):
        reason = F.when(broken, F.lit(name)).otherwise(reason)
    return raw.withColumn("reason", reason)


def quarantined(judged: DataFrame) -> DataFrame:
    """The rejected records, in the columns of `schemas.QUARANTINE`."""
    return judged.where(F.col("reason").isNotNull()).select("source", "source_file", "reason", "raw")


def accepted(judged: DataFrame) -> DataFrame:
    """The records without a fault, each with an event id: the log's own, or a digest of its key columns."""
    # A null must not hash like the value of another column.
    key = F.xxhash64(*(F.coalesce(F.col(name).cast("string"), F.lit("\0")) for name in KEY)).cast("string")
    return judged.where(F.col("reason").isNull()).select(
        "source",
        "source_file",
        "user_id",
        "item_id",
        "event_type",
        "event_time",
        F.coalesce("event_id", key).alias("event_id"),
        "given_session_id",
        "dwell_seconds",
        "rating",
    )


def mark_duplicates(records: DataFrame, published: DataFrame | None) -> DataFrame:
    """Add `duplicate`: all but one record of an event, and those that are `published` events already.

    An event is a source's (user, event id): two sources may number their events alike.
    """
    key = ["source", "user_id", "event_id"]
    content = F.xxhash64("item_id", "event_type", "event_time", "dwell_seconds", "rating")
    same_event = Window.partitionBy(*key).orderBy("source_file", content)
    marked = records.withColumn("duplicate", F.row_number().over(same_event) > 1)
    if published is None:
        return marked
    # Of the whole history only what tonight's records may repeat: a night's keys are few enough to be broadcast.
    repeated = published.select(*key).join(records.select(*key), on=key, how="left_semi")
    known = repeated.withColumn("known", F.lit(True)).distinct()
    return (
        marked.join(known, on=key, how="left")
        .withColumn("duplicate", F.col("duplicate") | F.coalesce("known", F.lit(False)))
        .drop("known")
    )


def with_strength(records: DataFrame, types: Mapping[str, EventTypeConfig]) -> DataFrame:
    """Add `type_index`, the type's place in the config, and `strength`, its signed weight."""
    names = list(types)
    index = F.array_position(F.array(*map(F.lit, names)), F.col("event_type")).cast("int") - 1
    weights = F.array(*(F.lit(float(types[name].weight)) for name in names))
    return records.withColumn("type_index", index).withColumn("strength", F.get(weights, F.col("type_index")))


def intake_counts(judged: DataFrame, marked: DataFrame) -> DataFrame:
    """Per input file, what became of its records, in the columns of `schemas.INTAKE`.

    The two sides are counted apart (all that was read and rejected; all that was accepted and its duplicates), so
    that the identity rows_read = accepted + quarantined + duplicates can fail where a step loses a record.
    """
    file = ["source", "source_file"]
    read = judged.groupBy(*file).agg(F.count(F.lit(1)).alias("rows_read"), F.count("reason").alias("quarantined"))
    kept = marked.groupBy(*file).agg(
        F.count_if(~F.col("duplicate")).alias("accepted"), F.count_if("duplicate").alias("duplicates")
    )
    return read.join(kept, on=file, how="left").select(
        *file,
        "rows_read",
        F.coalesce("accepted", F.lit(0)).alias("accepted"),
        "quarantined",
        F.coalesce("duplicates", F.lit(0)).alias("duplicates"),
    )
