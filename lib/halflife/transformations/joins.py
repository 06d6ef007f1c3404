"""Joins with tables that are small on every ordinary night."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

BROADCAST_ROWS = 1_000_000


def with_few(frame: DataFrame, few: DataFrame, on: Sequence[str]) -> DataFrame:
    """`frame` with the columns of `few`, null where it has no row for a key; nulls are equal to one another in `on`.

    Spark cannot know how small an aggregate turns out, and would shuffle the whole frame for a handful of rows. So
    `few` (one row a key) is computed first and counted: empty, it costs nothing; small, it is broadcast.
    """
    few = few.cache()
    rows = few.count()
    added = [field for field in few.schema if field.name not in on]
    if not rows:
        return frame.withColumns({field.name: F.lit(None).cast(field.dataType) for field in added})
    right = few.select(*(F.col(name).alias(f"few_{name}") for name in on), *(field.name for field in added))
    same = [F.col(name).eqNullSafe(F.col(f"few_{name}")) for name in on]
    joined = frame.join(F.broadcast(right) if rows <= BROADCAST_ROWS else right, on=same, how="left")
    return joined.drop(*(f"few_{name}" for name in on))
