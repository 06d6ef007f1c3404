"""Dense, append-only indexes of ids."""

from __future__ import annotations

import math
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from halflife.transformations.cleaning import arrival

IDS_PER_RANGE = 250_000
ROW_BITS = 33  # of what Spark's monotonically_increasing_id counts within a partition

# Kinds of what `census` counts.
USER, ITEM, REASON = range(3)
ID_COLUMNS: Final = {USER: "user_id", ITEM: "item_id", REASON: "reason"}


def census(judged: DataFrame) -> DataFrame:
    """The ids of the accepted records, and the reasons of the rejected ones, in one pass.

    Columns: `kind`; `id`, or the reason; `first_day`, on which it arrived first; `first_time` of its events; `rows`.
    """
    accepted = F.col("reason").isNull() & ~F.col("duplicate")
    ids = F.when(accepted, F.array(_id_of(USER), _id_of(ITEM))).when(
        F.col("reason").isNotNull(), F.array(_id_of(REASON))
    )
    return (
        judged.select(F.inline(ids), arrival().alias("day"), "event_time")
        .groupBy("kind", "id")
        .agg(F.min("day").alias("first_day"), F.min("event_time").alias("first_time"), F.count(F.lit(1)).alias("rows"))
    )


def _id_of(kind: int) -> Column:
    return F.struct(F.lit(kind).alias("kind"), F.col(ID_COLUMNS[kind]).alias("id"))


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
    ids = ids.cache()
    ranges = math.ceil(ids.count() / IDS_PER_RANGE)
    # One range needs no sample of the ids to find its bounds.
    ranged = ids.repartitionByRange(ranges, "first_day", id_column) if ranges > 1 else ids.repartition(1)
    # Spark numbers the rows of each partition from 0 and puts the partition's number above them. Cached, so that both
    # passes see the same.
    rows = (
        ranged.sortWithinPartitions("first_day", id_column).withColumn("row", F.monotonically_increasing_id()).cache()
    )
    place, number_of_range = F.col("row").bitwiseAND(2**ROW_BITS - 1), F.shiftright("row", ROW_BITS)
    starts = [start]
    if ranges > 1:
        counted = rows.groupBy(number_of_range.alias("range")).count().orderBy("range").collect()
        sizes = {row["range"]: row["count"] for row in counted}
        starts += [start := start + sizes.get(before, 0) for before in range(ranges - 1)]
    index = F.get(F.array(*map(F.lit, starts)), number_of_range.cast("int")) + place
    return rows.select(index.cast("int").alias(index_column), id_column)
