"""Published probabilities against what happened: all pairs of a night in one pass over its files.

The files are read by the tasks themselves, a row group at a time, as they were written: through the JVM a pair takes
three times as long. The pairs that are known or came true are few, and go to the row group that has their user.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife.errors import InputMissingError
from halflife.evaluation.segments import ALL, REPEAT_ITEM
from halflife.evaluation.tally import KEY, SUMS, tally

# One row is one (segment, bucket, bin) of a part of the pairs: `tally.tally` by segment.
TALLIED: Final = T.StructType(
    [
        T.StructField("segment", T.StringType(), False),
        *(T.StructField(name, T.LongType(), False) for name in KEY),
        *(T.StructField(name, T.DoubleType(), False) for name in SUMS),
    ]
)
_RANGE: Final = ("first_user", "last_user")
_COLUMNS: Final = ["user_id", "item_id", "score", "affinity", "memory"]


@dataclass(frozen=True)
class RowGroup:
    """One row group of a night's score files, and its least and greatest user id."""

    file: str
    number: int
    rows: int
    first_user: str
    last_user: str


def row_groups(files: Sequence[Path]) -> list[RowGroup]:
    """All row groups with rows of the files of a night. Raises InputMissingError where they hold no pair."""
    found = []
    for file in files:
        metadata = pq.read_metadata(file)
        column = metadata.schema.names.index("user_id")
        for number, group in enumerate(map(metadata.row_group, range(metadata.num_row_groups))):
            told = group.column(column).statistics
            first, last = (told.min, told.max) if told is not None and told.has_min_max else ("", chr(0x10FFFF))
            if group.num_rows:
                found.append(RowGroup(str(file), number, group.num_rows, first, last))
    if not found:
        raise InputMissingError("evaluate: the night's score table is empty")
    return found


def groups_of(groups: Sequence[RowGroup], user_ids: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of a place in `user_ids` (n,) and one in `groups` whose range holds the user; one user may lie in many.

    Ranges that do not overlap are searched in O(log groups) a user.
    """
    first, last = (np.array([getattr(group, name) for group in groups], dtype=object) for name in _RANGE)
    order = np.argsort(first, kind="stable")
    first, last = first[order], last[order]
    begin = np.searchsorted(np.maximum.accumulate(last), user_ids, side="left")
    count = np.searchsorted(first, user_ids, side="right") - begin
    row = np.repeat(np.arange(count.size), count)
    candidate = np.arange(row.size) - np.repeat(np.cumsum(count) - count - begin, count)
    inside = np.flatnonzero(last[candidate] >= user_ids[row])
    return row[inside], order[candidate[inside]]


def tallied(files: Sequence[Path], users: DataFrame, outcomes: DataFrame) -> pd.DataFrame:
    """All pairs of a night counted, in the columns of TALLIED; the segments are `all` and what was known before.

    `users`: one row is one scored user_id with its bucket. `outcomes`: one row is one (user_id, item_id) with an event
    before the night or a positive one within the horizon: known (before), strength (of what followed).
    Raises InputMissingError where there is no pair, or one of a user that is none of `users`.
    """
    groups = row_groups(files)
    spark = users.sparkSession

    def place(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            row, number = groups_of(groups, batch["user_id"].to_numpy())
            yield batch.iloc[row].assign(place=number)

    kept = users.select("user_id", "bucket")
    schema = T.StructType([*kept.schema, T.StructField("place", T.IntegerType(), False)])
    placed = kept.mapInPandas(place, schema).persist()
    nothing = (
        F.lit(None).cast(kind).alias(name) for name, kind in outcomes.select("item_id", "known", "strength").dtypes
    )
    rows = placed.select("*", *nothing).unionByName(
        placed.join(outcomes, on="user_id", how="inner").select(
            "place", "user_id", "bucket", "item_id", "known", "strength"
        )
    )

    def count(rows: pd.DataFrame) -> pd.DataFrame:
        return _tallied(groups[int(rows["place"].iloc[0])], rows)

    # A number of partitions is given: what these few bytes ask for is large.
    partitions = int(spark.conf.get("spark.sql.shuffle.partitions") or 1)
    parts = rows.repartition(partitions, "place").groupBy("place").applyInPandas(count, TALLIED)
    sums = [F.sum(name).alias(name) for name in SUMS]
    found = parts.groupBy("segment", *KEY).agg(*sums).toPandas()
    placed.unpersist()
    everyone = found[(found["segment"] == ALL) & (found["bucket"] < 0)]
    if everyone["pairs"].sum() != sum(group.rows for group in groups):
        raise InputMissingError("evaluate: the night's scores are not of the night's users: score the night again")
    return found


def _tallied(group: RowGroup, rows: pd.DataFrame) -> pd.DataFrame:
    """The pairs of one row group. `rows` has each of its users, without an item_id, and each outcome of them."""
    table = pq.ParquetFile(group.file, read_dictionary=_COLUMNS[:2]).read_row_group(group.number, columns=_COLUMNS)
    (user_ids, user), (item_ids, item) = (_codes(table, name) for name in _COLUMNS[:2])
    score, affinity, memory = (table[name].to_numpy().astype(np.float64) for name in _COLUMNS[2:])
    expected = np.maximum(affinity + memory, 0.0)

    wanted = rows["item_id"].notna()
    buckets = rows[~wanted].set_index("user_id")["bucket"].reindex(user_ids)
    outcomes = rows[wanted]
    at_user, at_item = user_ids.get_indexer(outcomes["user_id"]), item_ids.get_indexer(outcomes["item_id"])
    inside = (at_user >= 0) & (at_item >= 0)
    place, found = _places(user * len(item_ids) + item, (at_user * len(item_ids) + at_item)[inside])
    outcomes = outcomes[inside][found]
    observed = np.zeros(score.size)
    observed[place] = outcomes["strength"]

    known_users = buckets.notna().to_numpy()[user]
    bucket = buckets.fillna(0).to_numpy(dtype=np.int64)[user]
    known = place[outcomes["known"].to_numpy(dtype=np.bool_)]
    parts = {ALL: np.flatnonzero(known_users) if not known_users.all() else slice(None), REPEAT_ITEM: np.sort(known)}
    return pd.concat(
        [
            tally(score[some], expected[some], observed[some], bucket[some]).assign(segment=segment)
            for segment, some in parts.items()
        ]
    )[TALLIED.names]


def _codes(table: Any, name: str) -> tuple[pd.Index[str], NDArray[np.int64]]:
    """The different values of a column, and the place of each row's among them."""
    column = table[name].unify_dictionaries().combine_chunks()
    return pd.Index(column.dictionary.to_pylist()), column.indices.to_numpy().astype(np.int64)


def _places(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where the wanted keys are among unique ones, of those that are; and which are."""
    # Rows are written user by user, items in one order: they ascend, unless someone has written them again.
    order = None if (keys[1:] > keys[:-1]).all() else np.argsort(keys)
    place = np.minimum(np.searchsorted(keys, wanted, sorter=order), keys.size - 1)
    if order is not None:
        place = order[place]
    found = keys[place] == wanted
    return place[found], found
