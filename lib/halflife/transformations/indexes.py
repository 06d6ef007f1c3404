"""Dense, append-only indexes of ids."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def first_seen(records: DataFrame, id_column: str) -> DataFrame:
    """The ids of `records`, each with `first_day`, on which it arrived first, and `first_time` of its events."""
    arrival = F.coalesce("arrival_day", F.to_date("event_time"))
    return records.groupBy(id_column).agg(F.min(arrival).alias("first_day"), F.min("event_time").alias("first_time"))


def with_catalogue(seen: DataFrame, listed: DataFrame, id_column: str) -> DataFrame:
    """The ids of a log and of a catalogue: what is listed was there before any day."""
    known = listed.select(id_column, F.lit(True).alias("listed"))
    joined = seen.select("first_day", id_column).join(known, on=id_column, how="full_outer")
    return joined.withColumn("first_day", F.when(F.col("listed").isNull(), F.col("first_day"))).drop("listed")


def number(ids: DataFrame, id_column: str, index_column: str, start: int) -> DataFrame:
    """Number ids from `start` in the order (first_day, id), in place of `first_day`.

    That order is the one in which nights, run one by one, would have met them. It depends on the log alone, not on
    partitions: the ids are sorted by range, and each range starts where those before it end, so no task sees more than
    its range.
    """
    # Cached, so that both passes see the same ranges.
    ranged = ids.repartitionByRange("first_day", id_column).withColumn("range", F.spark_partition_id()).cache()
    sizes = {row["range"]: row["count"] for row in ranged.groupBy("range").count().collect()}
    starts: list[int] = []
    for place in range(max(sizes, default=-1) + 1):
        starts.append(start)
        start += sizes.get(place, 0)
    offsets = F.array(*map(F.lit, starts)) if starts else F.array(F.lit(start))
    in_range = F.row_number().over(Window.partitionBy("range").orderBy("first_day", id_column)) - 1
    numbered = ranged.withColumn(index_column, (F.get(offsets, F.col("range")) + in_range).cast("int"))
    return numbered.drop("range", "first_day")
