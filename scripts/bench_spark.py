"""The sequences of a log in plain Spark, as one would write them without halflife, in one of two ways:

    lag_cumsum      sessions by `lag` and a running sum of their starts
    session_window  sessions by Spark's own session windows

Writes the columns of `schemas.SEQUENCES` and nothing else: no quarantine, no tables of events and sessions, no audit,
no state for the next night. Run by spark-submit; prints the seconds it took, from the answer to a trivial query on.
"""

from __future__ import annotations

import argparse
import json
import time

from bench_processes import FEATURES, GAP_SECONDS, LENGTH, WEIGHTS
from pyspark.sql import Column, DataFrame, SparkSession, Window, WindowSpec
from pyspark.sql import functions as F


def sequences(log: DataFrame, way: str) -> DataFrame:
    """One row a user of `log` (user_id, item_id, event_type, event_time, dwell_seconds, date)."""
    known = log.dropna(subset=["user_id", "item_id", "event_type", "event_time"])
    type_index = F.array_position(F.array(*map(F.lit, WEIGHTS)), F.col("event_type")).cast("int") - 1
    events = (
        known.join(F.broadcast(numbered(known, "item")), on="item_id", how="inner")
        .withColumn("type_index", type_index)
        .select("user_id", "event_time", "item_index", "type_index", strength().alias("strength"))
    )
    of_item = ordered("user_id", "item_index")
    placed = {"lag_cumsum": by_lag_cumsum, "session_window": by_session_window}[way](events).withColumns(
        {
            "revisit_gap": seconds_since_last(of_item),
            "revisit_count": F.row_number().over(of_item) - 1,
        }
    )
    return (
        last_events(placed)
        .join(numbered(known, "user"), on="user_id", how="inner")
        .select(
            "user_index",
            "user_id",
            F.size("rows").alias("length"),
            "last_event_time",
            *(padded(name, kind).alias(name) for name, kind in FEATURES.items()),
        )
    )


def numbered(log: DataFrame, name: str) -> DataFrame:
    """Ids and their dense index, in the order of (first day, id)."""
    ids = log.groupBy(f"{name}_id").agg(F.min("date").alias("first_day"))
    place = F.row_number().over(Window.orderBy("first_day", f"{name}_id")) - 1
    return ids.select(f"{name}_id", place.alias(f"{name}_index"))


def strength() -> Column:
    weight = F.get(F.array(*map(F.lit, WEIGHTS.values())), F.col("type_index"))
    dwell = F.col("dwell_seconds")
    # Not `coalesce`: the least of null and a number is the number.
    factor = F.when(dwell.isNull(), 1.0).otherwise(F.log2(1 + F.least(dwell, F.lit(3_600.0)) / 60))
    return (weight * factor).cast("float")


def by_lag_cumsum(events: DataFrame) -> DataFrame:
    of_user = ordered("user_id")
    starts = F.coalesce(F.col("gap") > GAP_SECONDS, F.lit(False)).cast("int")
    return (
        events.withColumn("gap", seconds_since_last(of_user))
        .withColumn("session", F.sum(starts).over(of_user))
        .withColumn("session_position", F.row_number().over(ordered("user_id", "session")) - 1)
    )


def by_session_window(events: DataFrame) -> DataFrame:
    # Spark's session has ended once the gap is over: a microsecond more, as a gap of exactly 30 minutes is none.
    window = F.session_window("event_time", f"{GAP_SECONDS} seconds 1 microsecond")
    row = F.struct("event_time", "item_index", "type_index", "strength")
    return (
        events.groupBy("user_id", window)
        .agg(F.sort_array(F.collect_list(row)).alias("rows"))
        .select("user_id", F.posexplode("rows").alias("session_position", "row"))
        .select("user_id", "session_position", "row.*")
        .withColumn("gap", seconds_since_last(ordered("user_id")))
    )


def last_events(events: DataFrame) -> DataFrame:
    """One row a user: the last events as `rows`, structs of FEATURES, oldest first."""
    derived = {
        "event_seconds": F.unix_micros("event_time") / 1e6,
        "gap_log": F.log1p(F.coalesce("gap", F.lit(0.0))),
        "revisit_gap_log": F.log1p(F.coalesce("revisit_gap", F.lit(0.0))),
        "hour": F.hour("event_time"),
        "weekday": F.weekday("event_time"),
    }
    age = F.row_number().over(Window.partitionBy("user_id").orderBy(F.desc("event_time")))
    features = (derived.get(name, F.col(name)).cast(kind).alias(name) for name, kind in FEATURES.items())
    recent = events.withColumn("age", age).where(F.col("age") <= LENGTH)
    return recent.groupBy("user_id").agg(
        F.max("event_time").alias("last_event_time"),
        F.sort_array(F.collect_list(F.struct("event_time", *features))).alias("rows"),
    )


def padded(name: str, kind: str) -> Column:
    zeros = F.array_repeat(F.lit(0).cast(kind), LENGTH)
    return F.slice(F.concat(f"rows.{name}", zeros), 1, LENGTH)


def ordered(*keys: str) -> WindowSpec:
    return Window.partitionBy(*keys).orderBy("event_time")


def seconds_since_last(window: WindowSpec) -> Column:
    return (F.unix_micros("event_time") - F.unix_micros(F.lag("event_time").over(window))) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=["lag_cumsum", "session_window"])
    parser.add_argument("log", help="folder of a log")
    parser.add_argument("output", help="a folder that is not there yet")
    options = parser.parse_args()
    spark = SparkSession.builder.appName(f"bench {options.way}").getOrCreate()
    spark.range(1).count()
    begin = time.perf_counter()
    sequences(spark.read.parquet(options.log), options.way).write.parquet(options.output)
    print(json.dumps({"seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main()
