"""A small log with known habits, in the columns of the training table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import schemas

DAY = 86_400.0
BEGIN = 1_500_000_000.0 // DAY * DAY
DAYS = 100
AS_OF = BEGIN + DAYS * DAY
ITEMS = pd.DataFrame(
    {"item_index": range(12), "item_id": [f"item{n}" for n in range(12)], "category": ["food", "toys", None] * 4}
)
TABLE = to_arrow_schema(schemas.TRAINING)


def user_events(user: int, events: int = 40) -> dict[str, np.ndarray[Any, Any]]:
    """Sessions of three items, most of them from the user's own few."""
    rng = np.random.default_rng(user)
    sessions = np.sort(rng.uniform(BEGIN, AS_OF, size=(events + 2) // 3))
    seconds = np.repeat(sessions, 3)[:events] + np.tile([0.0, 10.0, 25.0], len(sessions))[:events]
    item = np.where(rng.random(events) < 0.8, (user + rng.integers(0, 3, events)) % 12, rng.integers(0, 12, events))
    strength = np.where(rng.random(events) < 0.1, -0.5, 1.0)
    return columns_of(seconds, item, strength)


def columns_of(
    seconds: np.ndarray[Any, Any], item: np.ndarray[Any, Any], strength: np.ndarray[Any, Any]
) -> dict[str, np.ndarray[Any, Any]]:
    """The columns of `sequences` (not padded) of one user's events, sorted by time."""
    gap = np.diff(seconds, prepend=seconds[:1])
    position = np.arange(len(seconds))
    revisit_gap, count = np.zeros(len(seconds)), np.zeros(len(seconds), dtype=np.int32)
    for place in position:
        earlier = np.flatnonzero(item[:place] == item[place])
        count[place] = len(earlier)
        if len(earlier):
            revisit_gap[place] = seconds[place] - seconds[earlier[-1]]
    starts = np.maximum.accumulate(np.where((gap > 1_800) | (position == 0), position, 0))
    return {
        "item_index": item.astype(np.int32),
        "type_index": (strength < 0).astype(np.int32),
        "strength": strength.astype(np.float32),
        "event_seconds": seconds,
        "gap_log": np.log1p(gap).astype(np.float32),
        "revisit_gap_log": np.log1p(revisit_gap).astype(np.float32),
        "revisit_count": count,
        "session_position": (position - starts).astype(np.int32),
        "hour": (seconds // 3_600 % 24).astype(np.int32),
        "weekday": ((seconds // DAY + 3) % 7).astype(np.int32),
    }


def row_of(columns: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """One row of a training table."""
    return {name: column.tobytes() for name, column in columns.items()}


def write_rows(folder: Path, rows: list[dict[str, Any]], rows_per_file: list[int]) -> None:
    """Plain Parquet with one row group a file, of the given numbers of rows."""
    folder.mkdir(parents=True)
    begin = 0
    for number, count in enumerate(rows_per_file):
        numbered = [{"user_index": place, **rows[place]} for place in range(begin, begin + count)]
        begin += count
        pq.write_table(pa.Table.from_pylist(numbered, TABLE), folder / f"part-{number:03}.parquet")
