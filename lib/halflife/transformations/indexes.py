"""Dense, append-only indexes of ids."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def extend(index: DataFrame | None, candidates: DataFrame, id_column: str, index_column: str) -> DataFrame:
    """An index of ids with the new ones of `candidates` behind the old ones, in the order of their ids.

    `candidates` has `id_column` and the id's features (one row an id); `index` has `index_column` as well, or is None
    for the first night. Old ids keep their numbers; their features are those of `candidates` where it has the id.
    The numbers depend on the set of ids alone, not on partitions: the ids are sorted by range, and each range starts
    where the ranges before it end, so no task sees more than its range.
    """
    features = [name for name in candidates.columns if name != id_column]
    if index is None:
        return _numbered(candidates, id_column, index_column, start=0).select(index_column, id_column, *features)
    start = index.count()
    new = candidates.join(index.select(id_column), on=id_column, how="left_anti")
    old = index.select(index_column, id_column)
    if features:
        fresh = candidates.select(id_column, *(F.col(name).alias(f"new_{name}") for name in features))
        old = index.join(fresh, on=id_column, how="left").select(
            index_column, id_column, *(F.coalesce(f"new_{name}", name).alias(name) for name in features)
        )
    return old.unionByName(_numbered(new, id_column, index_column, start))


def _numbered(ids: DataFrame, id_column: str, index_column: str, start: int) -> DataFrame:
    """Number ids from `start` in their order."""
    # Cached, so that both passes see the same ranges.
    ranged = ids.repartitionByRange(id_column).withColumn("range", F.spark_partition_id()).cache()
    sizes = {row["range"]: row["count"] for row in ranged.groupBy("range").count().collect()}
    starts: list[int] = []
    for number in range(max(sizes, default=-1) + 1):
        starts.append(start)
        start += sizes.get(number, 0)
    offsets = F.array(*map(F.lit, starts)) if starts else F.array(F.lit(start))
    place = F.row_number().over(Window.partitionBy("range").orderBy(id_column)) - 1
    numbered = ranged.withColumn(index_column, (F.get(offsets, F.col("range")) + place).cast("int"))
    return numbered.drop("range")
