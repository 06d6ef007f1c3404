"""Raw records as a reader would give them, made of what a test wants to be different about them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from halflife import schemas
from halflife.config import ColumnsConfig, EventTypeConfig, SourceConfig

TYPES = {
    "view": EventTypeConfig(weight=1.0),
    "buy": EventTypeConfig(weight=3.0),
    "cancel": EventTypeConfig(weight=-2.0),
}
DAY = date(2026, 1, 10)  # of the file
NIGHT = date(2026, 1, 11)
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
COLUMNS = ColumnsConfig(
    user="user",
    item="item",
    time="time",
    event_type="type",
    event_id="id",
    session_id="session",
    dwell_seconds="dwell",
    rating="rating",
    quantity="quantity",
)
DATED = SourceConfig(path="log/{date}.csv", format="csv", columns=COLUMNS)
UNDATED = DATED.model_copy(update={"path": "log.csv"})
SOURCES = {"log": DATED}


def without_ids(source: SourceConfig, **changes: Any) -> SourceConfig:
    """The source without event ids, so that its records are told apart by all that they say."""
    return source.model_copy(update={"columns": source.columns.model_copy(update={"event_id": None}), **changes})


def record(**changes: Any) -> dict[str, Any]:
    """A record without a fault, but for the changes."""
    good = {
        "source": "log",
        "source_file": "a.csv",
        "arrival_day": DAY,
        "user_id": "u",
        "item_id": "i",
        "event_time": NOON,
        "time_text": "noon",
        "event_type": "view",
        "raw": "text",
    }
    return {name: ({**good, **changes}).get(name) for name in schemas.RAW.names}


def raw(spark: SparkSession, *records: dict[str, Any]) -> DataFrame:
    """A frame of `schemas.RAW`."""
    return spark.createDataFrame([tuple(each.values()) for each in records], schemas.RAW)
