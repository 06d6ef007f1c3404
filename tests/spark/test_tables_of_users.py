"""Indexes that never renumber, and the histories that training reads."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from halflife import schemas
from halflife.training.examples import history_of
from halflife.transformations import indexes, sequences

START = datetime(2026, 1, 1, 5, tzinfo=UTC)  # a Thursday


def test_new_ids_go_behind_the_old_ones_by_the_day_that_brought_them(spark: SparkSession) -> None:
    ids = [("c", date(2026, 1, 2)), ("a", date(2026, 1, 3)), ("b", date(2026, 1, 2)), ("z", None)]
    numbered = indexes.number(
        spark.createDataFrame(ids, "id string, first_day date").repartition(3), "id", "n", start=7
    )
    assert {row["id"]: row["n"] for row in numbered.collect()} == {"z": 7, "b": 8, "c": 9, "a": 10}


@pytest.mark.parametrize("ids_per_range", [100, 10_000])
def test_numbers_do_not_depend_on_partitions(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, ids_per_range: int
) -> None:
    monkeypatch.setattr(indexes, "IDS_PER_RANGE", ids_per_range)
    ids = spark.range(1_000).select(F.col("id").cast("string").alias("id"), F.lit(None).cast("date").alias("first_day"))
    numbers = [
        {row["id"]: row["n"] for row in indexes.number(ids.repartition(parts), "id", "n", start=0).collect()}
        for parts in (1, 7)
    ]
    assert numbers[0] == numbers[1] == {name: n for n, name in enumerate(sorted(map(str, range(1_000))))}


def test_an_id_is_of_the_day_of_its_first_accepted_record_unless_the_catalogue_lists_it(spark: SparkSession) -> None:
    day = date(2026, 1, 1)
    rows = [
        ("a", "x", day + timedelta(days=1), START, None, False),
        ("a", "x", day, START + timedelta(hours=1), None, False),
        ("b", "y", None, START, None, False),
        ("c", "y", day, START, None, False),
        ("e", "z", day, START, None, True),
        ("f", "z", day, None, "missing_time", False),
        (None, "z", day, None, "missing_user", False),
        (None, "x", day, START, "missing_user", False),
    ]
    columns = "user_id string, item_id string, arrival_day date, event_time timestamp, reason string, duplicate boolean"
    seen = indexes.census(spark.createDataFrame(rows, columns).repartition(3))
    found = {(row["kind"], row["id"]): (row["first_day"], row["first_time"], row["rows"]) for row in seen.collect()}
    reasons = {reason: found.pop((indexes.REASON, reason))[2] for reason in ("missing_time", "missing_user")}
    assert reasons == {"missing_time": 1, "missing_user": 2}
    first = START.replace(tzinfo=None)
    assert found == {
        (indexes.USER, "a"): (day, first, 2),
        (indexes.USER, "b"): (day, first, 1),
        (indexes.USER, "c"): (day, first, 1),
        (indexes.ITEM, "x"): (day, first, 2),
        (indexes.ITEM, "y"): (day, first, 2),
    }
    users = seen.where(F.col("kind") == indexes.USER).select("first_day", F.col("id").alias("user_id"))
    listed = spark.createDataFrame([("c",), ("d",)], "user_id string")
    joined = indexes.with_catalogue(users, listed, "user_id")
    assert {row["user_id"]: row["first_day"] for row in joined.collect()} == {"a": day, "b": day, "c": None, "d": None}


def test_training_reads_the_last_events_oldest_first(spark: SparkSession) -> None:
    rows = [
        (user, f"u{user}", n, 1, -1.0, START + timedelta(hours=n), f"e{n}", 3600.0 if n else None, None, 0, n)
        for user, events in ((0, 6), (1, 2))
        for n in range(events)
    ]
    columns = (
        "user_index int, user_id string, item_index int, type_index int, strength double, event_time timestamp, "
        "event_id string, gap_seconds double, revisit_gap_seconds double, revisit_count int, session_position int"
    )
    made = sequences.last_events(spark.createDataFrame(rows, columns).repartition(3), length=4)
    assert made.columns == schemas.TRAINING.names
    in_order = sorted(made.collect(), key=lambda row: row["user_index"])
    long, short = (history_of(row.asDict(), before_seconds=np.inf).columns for row in in_order)
    assert (long["item_index"].tolist(), long["hour"].tolist()) == ([2, 3, 4, 5], [7, 8, 9, 10])
    assert (short["item_index"].tolist(), short["weekday"].tolist()) == ([0, 1], [3, 3])
    assert short["strength"].tolist() == [-1.0, -1.0]
    assert short["gap_log"][0] == 0.0
    assert abs(short["gap_log"][1] - 8.18897) < 1e-5
    assert short["event_seconds"].tolist() == [START.timestamp(), START.timestamp() + 3600]
