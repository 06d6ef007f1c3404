"""The protocol: what is to be predicted at a cut, and what is known there.

Rows are unique (user, session, item). An item is kept if enough users bought it before the cut. There are two truths:
each user's next basket, the first session at or after the cut that holds kept items, to be predicted for its first
timestamp; and all kept items of the horizon after the cut, to be predicted for the cut. The history ends at the cut.
All kept items are ranked, bought before or not, ties by popularity before the cut and then by item id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

_COLUMNS: Final = T.ArrayType(T.IntegerType(), False)

# One row is one user with a next basket: when that begins (epoch seconds), its kept items, those of the horizon (maybe
# none), and the user's history of kept items before the cut (one entry is one item of one session, oldest first), null
# for a new user. Items are catalogue columns; `types` are the event types of a truth's item, a bit for each.
CASES: Final = T.StructType(
    [
        T.StructField("user_index", T.IntegerType(), False),
        T.StructField("at_seconds", T.DoubleType(), False),
        T.StructField("next_columns", _COLUMNS, False),
        T.StructField("next_types", _COLUMNS, False),
        T.StructField("horizon_columns", _COLUMNS, True),
        T.StructField("horizon_types", _COLUMNS, True),
        T.StructField("history_columns", _COLUMNS, True),
        T.StructField("history_seconds", T.ArrayType(T.DoubleType(), False), True),
        T.StructField("history_sessions", T.ArrayType(T.LongType(), False), True),
    ]
)
HISTORY: Final = ("history_columns", "history_seconds", "history_sessions")


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

    Columns: user_index, session_id, item_index, item_id, before (the cut), seconds of the first such event, and types:
    a bit for each of the `event_types` that it has.
    """
    counted = events.where(F.col("event_type").isin(*event_types))
    if until is not None:
        counted = counted.where(F.col("event_time") < F.lit(until))
    place = F.array_position(F.lit(list(event_types)), F.col("event_type")).cast("int") - 1
    return (
        counted.withColumn("before", F.col("event_time") < F.lit(cut))
        # One shuffle by user serves this grouping and those by user that follow.
        .repartition("user_index")
        .groupBy("user_index", "session_id", "item_index", "item_id", "before")
        .agg(
            (F.unix_micros(F.min("event_time")) / F.lit(1e6)).alias("seconds"),
            F.bit_or(F.pow(F.lit(2), place).cast("int")).alias("types"),
        )
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


def in_columns(rows: DataFrame, kept: Catalogue) -> DataFrame:
    """The rows of kept items, with each item's `column`."""
    return rows.join(column_map(kept, rows), on="item_index", how="inner")


def histories(inside: DataFrame) -> DataFrame:
    """What each user bought before the cut: user_index and the columns of HISTORY, from rows of `in_columns`."""
    # Sorted, so that two items bought in the same sessions add up in the same order and tie exactly.
    session = F.xxhash64("session_id").alias("session")
    entries = F.sort_array(F.collect_list(F.struct("seconds", "column", session)))
    return (
        inside.where("before")
        .groupBy("user_index")
        .agg(entries.alias("entries"))
        .select(
            "user_index",
            F.col("entries.column").alias("history_columns"),
            F.col("entries.seconds").alias("history_seconds"),
            F.col("entries.session").alias("history_sessions"),
        )
    )


def cases(inside: DataFrame, known: DataFrame, cut: datetime, horizon_days: float) -> DataFrame:
    """What is to be predicted for each user, as CASES, from rows of `in_columns` and the `histories` known."""
    after = inside.where(~F.col("before"))
    ends = F.lit((cut + timedelta(days=horizon_days)).timestamp())
    return (
        _first_baskets(after)
        .join(_horizons(after.where(F.col("seconds") < ends)), on="user_index", how="left")
        .join(known, on="user_index", how="left")
        .select(*CASES.names)
    )


def _horizons(after: DataFrame) -> DataFrame:
    items = after.groupBy("user_index", "column").agg(F.bit_or("types").alias("types"))
    entries = F.sort_array(F.collect_list(F.struct("column", "types"))).alias("entries")
    return (
        items.groupBy("user_index")
        .agg(entries)
        .select("user_index", _parts("entries.column", "horizon_columns"), _parts("entries.types", "horizon_types"))
    )


def _first_baskets(after: DataFrame) -> DataFrame:
    baskets = after.groupBy("user_index", "session_id").agg(
        F.min("seconds").alias("at_seconds"),
        F.sort_array(F.collect_list(F.struct("column", "types"))).alias("entries"),
    )
    first = F.min(F.struct("at_seconds", "session_id", "entries")).alias("first")
    return (
        baskets.groupBy("user_index")
        .agg(first)
        .select(
            "user_index",
            "first.at_seconds",
            _parts("first.entries.column", "next_columns"),
            _parts("first.entries.types", "next_types"),
        )
    )


def _parts(field: str, name: str) -> Column:
    return F.col(field).alias(name)
