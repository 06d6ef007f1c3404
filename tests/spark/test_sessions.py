"""The walk as a step of a Spark job: its tasks write tables that Spark reads, like the oracle's."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from halflife import schemas
from halflife.histories import walk
from halflife.transformations import window
from histories_log import DAY, SECOND, START, Event, in_order, oracle, settings


def random_log(seed: int) -> list[Event]:
    """Gaps around the limit (exactly on it too) and of zero; keys of either sign; every third user's own sessions."""
    chance = random.Random(seed)
    log = []
    for user in range(9):
        micros = START
        for number in range(40):
            micros += chance.choice([0, 0, 1, 599, 600, 601, 30_000]) * SECOND
            event_id = chance.choice([None, f"e{number}"])
            given = f"basket {number // 4}" if user % 3 == 0 and chance.random() < 0.7 else None
            event = Event(user, micros, chance.getrandbits(64) - 2**63, chance.randrange(4), event_id)
            event = replace(event, given_session_id=given, file_index=chance.randrange(3))
            log += [event] * chance.choice([1, 1, 1, 2])
    return log


def as_frame(spark: SparkSession, log: list[Event]) -> DataFrame:
    rows = [tuple(event.row().values()) for event in log]
    kinds = {field.name: field.dataType.simpleString() for field in schemas.HISTORY}
    text = ", ".join(f"{name} {'bigint' if kind == 'timestamp' else kind}" for name, kind in kinds.items())
    times = {name: F.timestamp_micros(name) for name, kind in kinds.items() if kind == "timestamp"}
    return spark.createDataFrame(rows, text).withColumns(times)


def test_tasks_write_what_the_oracle_finds(spark: SparkSession, tmp_path: Path) -> None:
    log = random_log(seed=1)
    random.Random(2).shuffle(log)
    told = settings(tmp_path, settled_before_micros=START + DAY)

    def of_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return walk.walk(batches, told)

    ordered = window.in_order(as_frame(spark, log), 3)
    listing = ordered.mapInArrow(of_partition, from_arrow_schema(walk.LISTING)).collect()
    events = spark.read.schema(schemas.EVENTS).parquet(told.folders["events"])
    found = events.withColumns({name: F.unix_micros(name) for name in ("event_time", "session_start")}).collect()
    expected, sessions, duplicates = oracle(in_order(log))

    by_id = {(row["user_id"], row["event_time"], row["event_id"]): row for row in found}
    assert len(by_id) == len(found) == len(expected)
    names: dict[Any, set[str]] = defaultdict(set)
    for wanted in expected:
        row = by_id[wanted["user_id"], wanted["event_time"], wanted["event_id"]]
        names[wanted.pop("session")].add(row["session_id"])
        assert {name: row[name] for name in wanted} == wanted
    assert all(len(ids) == 1 for ids in names.values())
    assert spark.read.schema(schemas.SESSIONS).parquet(told.folders["sessions"]).count() == len(sessions)
    last = spark.read.schema(schemas.SEQUENCES).parquet(told.folders["sequences"])
    assert {row["user_id"]: row["length"] for row in last.collect()} == {f"user {user}": 4 for user in range(9)}
    counted: dict[int, int] = defaultdict(int)
    for row in listing:
        if row["duplicates"]:
            counted[row["file_index"]] += row["duplicates"]
    assert counted == duplicates
    assert sum(row["rows"] for row in listing if row["table"] == "events") == len(found)
