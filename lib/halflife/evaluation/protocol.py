"""The next-basket protocol: what is to be predicted at a cut, and what is known there.

Rows are unique (user, session, item). An item is kept if enough users bought it before the cut. The truth is each
user's first session at or after the cut that holds kept items, for users with a kept purchase before the cut; the
prediction is for that session's first timestamp, the history ends at the cut. All kept items are ranked,
bought before or not, ties by popularity before the cut and then by item id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

# One row is one user's next basket: when it begins (epoch seconds), its kept items, and the user's history of
# kept items before the cut (one entry is one item of one session, oldest first). Items are catalogue columns.
CASES: Final = T.StructType(
    [
        T.StructField("user_index", T.IntegerType(), False),
        T.StructField("at_seconds", T.DoubleType(), False),
        T.StructField("truth", T.ArrayType(T.IntegerType(), False), False),
        T.StructField("history_columns", T.ArrayType(T.IntegerType(), False), False),
        T.StructField("history_seconds", T.ArrayType(T.DoubleType(), False), False),
    ]
)


@dataclass(frozen=True)
class Catalogue:
    """The kept items in tie order, the most popular first: the columns of every ranking at this cut.

    `popularity` counts the unique (user, session, item) rows before the cut. Both arrays are (n,).
    """

    item_indices: NDArray[np.int64]
    popularity: NDArray[np.float64]

    @property
    def popularity_share(self) -> NDArray[np.float64]:
        """Popularity over that of the most popular item."""
        share: NDArray[np.float64] = self.popularity / self.popularity[0]
        return share


def basket_rows(
    events: DataFrame, event_types: Sequence[str], cut: datetime, until: datetime | None = None
) -> DataFrame:
    """Events that count, before `until`: one row is one (user, session, item) before the cut, or from it on.

    Columns: user_index, session_id, item_index, item_id, before (the cut), seconds of the first such event.
    """
    counted = events.where(F.col("event_type").isin(*event_types))
    if until is not None:
        counted = counted.where(F.col("event_time") < F.lit(until))
    return (
        counted.withColumn("before", F.col("event_time") < F.lit(cut))
        # One shuffle by user serves this grouping and those by user that follow.
        .repartition("user_index")
        .groupBy("user_index", "session_id", "item_index", "item_id", "before")
        .agg((F.unix_micros(F.min("event_time")) / F.lit(1e6)).alias("seconds"))
    )


def catalogue(rows: DataFrame, min_users_per_item: int) -> Catalogue:
    """The items that at least `min_users_per_item` users bought before the cut, on the driver; none is allowed."""
    kept = (
        rows.where("before")
        .groupBy("item_index", "item_id")
        .agg(F.count(F.lit(1)).alias("popularity"), F.count_distinct("user_index").alias("users"))
        .where(F.col("users") >= min_users_per_item)
        # The shorter id first, so that ids which are numbers come in the order of the numbers.
        .orderBy(F.desc("popularity"), F.length("item_id"), "item_id")
        .select("item_index", "popularity")
        .toPandas()
    )
    return Catalogue(
        item_indices=kept["item_index"].to_numpy(dtype=np.int64),
        popularity=kept["popularity"].to_numpy(dtype=np.float64),
    )


def column_map(kept: Catalogue, like: DataFrame) -> DataFrame:
    """Each kept item's `column` by item_index, small enough to broadcast; in the session of `like`."""
    rows = [(int(item), column) for column, item in enumerate(kept.item_indices)]
    schema = T.StructType(
        [T.StructField("item_index", T.IntegerType(), False), T.StructField("column", T.IntegerType(), False)]
    )
    return F.broadcast(like.sparkSession.createDataFrame(rows, schema))


def cases(rows: DataFrame, kept: Catalogue) -> DataFrame:
    """The users' next baskets of kept items, for users with a history of kept items, as CASES."""
    inside = rows.join(column_map(kept, rows), on="item_index", how="inner")
    truth = _first_baskets(inside.where(~F.col("before")))
    history = _histories(inside.where("before"))
    return truth.join(history, on="user_index", how="inner").select(*CASES.names)


def _histories(rows: DataFrame) -> DataFrame:
    # Sorted, so that two items bought in the same sessions add up in the same order and tie exactly.
    entries = F.sort_array(F.collect_list(F.struct("seconds", "column")))
    return (
        rows.groupBy("user_index")
        .agg(entries.alias("entries"))
        .select(
            "user_index",
            F.col("entries.column").alias("history_columns"),
            F.col("entries.seconds").alias("history_seconds"),
        )
    )


def _first_baskets(rows: DataFrame) -> DataFrame:
    baskets = rows.groupBy("user_index", "session_id").agg(
        F.min("seconds").alias("at_seconds"), F.sort_array(F.collect_list("column")).alias("truth")
    )
    first = F.min(F.struct("at_seconds", "session_id", "truth")).alias("first")
    return baskets.groupBy("user_index").agg(first).select("user_index", "first.at_seconds", "first.truth")
