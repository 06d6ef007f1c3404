"""The next-basket protocol: what is to be predicted at a cut, and what is known there.

Rows are unique (user, session, item). An item is kept if enough users bought it before the cut. The truth is each
user's first session at or after the cut that holds kept items, for users with a kept purchase before the cut; the
prediction is for that session's first timestamp, the history ends at the cut. All kept items are ranked,
bought before or not, ties by popularity before the cut and then by item id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife.errors import InputMissingError

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


def instant(day: date) -> datetime:
    """The instant that `as_of = day` means: its first moment in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def basket_rows(events: DataFrame, event_types: Sequence[str]) -> DataFrame:
    """Events that count, once per (user, session, item), at their first time."""
    return (
        events.where(F.col("event_type").isin(*event_types))
        .groupBy("user_index", "session_id", "item_index", "item_id")
        .agg(F.min("event_time").alias("event_time"))
    )


def catalogue(events: DataFrame, event_types: Sequence[str], cut: datetime, min_users_per_item: int) -> Catalogue:
    """The items that at least `min_users_per_item` users bought before the cut, on the driver.

    Raises InputMissingError where there is none.
    """
    kept = (
        basket_rows(events.where(F.col("event_time") < F.lit(cut)), event_types)
        .groupBy("item_index", "item_id")
        .agg(F.count(F.lit(1)).alias("popularity"), F.count_distinct("user_index").alias("users"))
        .where(F.col("users") >= min_users_per_item)
        # The shorter id first, so that ids which are numbers come in the order of the numbers.
        .orderBy(F.desc("popularity"), F.length("item_id"), "item_id")
        .select("item_index", "popularity")
        .toPandas()
    )
    if kept.empty:
        raise InputMissingError(
            f"evaluate: before {cut:%Y-%m-%d} no item has {min_users_per_item} users with events of type"
            f" {', '.join(event_types)}: see evaluate.event_types and evaluate.min_users_per_item"
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


def cases(
    events: DataFrame,
    event_types: Sequence[str],
    cut: datetime,
    kept: Catalogue,
    until: datetime | None = None,
) -> DataFrame:
    """The users' next baskets at or after the cut, and before `until`, as CASES."""
    columns = column_map(kept, events)
    before = events.where(F.col("event_time") < F.lit(cut))
    after = events.where(F.col("event_time") >= F.lit(cut))
    if until is not None:
        after = after.where(F.col("event_time") < F.lit(until))
    history = _histories(basket_rows(before, event_types).join(columns, on="item_index", how="inner"))
    truth = _first_baskets(basket_rows(after, event_types).join(columns, on="item_index", how="inner"))
    return truth.join(history, on="user_index", how="inner").select(*CASES.names)


def _histories(rows: DataFrame) -> DataFrame:
    # Sorted, so that two items bought in the same sessions add up in the same order and tie exactly.
    entry = F.struct(seconds("event_time").alias("seconds"), "column")
    return (
        rows.groupBy("user_index")
        .agg(F.sort_array(F.collect_list(entry)).alias("entries"))
        .select(
            "user_index",
            F.col("entries.column").alias("history_columns"),
            F.col("entries.seconds").alias("history_seconds"),
        )
    )


def _first_baskets(rows: DataFrame) -> DataFrame:
    baskets = rows.groupBy("user_index", "session_id").agg(
        F.min(seconds("event_time")).alias("at_seconds"),
        F.sort_array(F.collect_list("column")).alias("truth"),
    )
    first = F.min(F.struct("at_seconds", "session_id", "truth")).alias("first")
    return baskets.groupBy("user_index").agg(first).select("user_index", "first.at_seconds", "first.truth")


def seconds(name: str) -> Column:
    """A timestamp column as epoch seconds, whatever the session's time zone."""
    return F.unix_micros(name) / F.lit(1e6)
