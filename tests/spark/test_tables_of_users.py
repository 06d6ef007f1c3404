"""Indexes that never renumber, and sequences of one fixed length."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from halflife import schemas
from halflife.transformations import indexes, sequences

START = datetime(2026, 1, 1, 5, tzinfo=UTC)  # a Thursday


def test_new_ids_go_behind_the_old_ones_in_their_order(spark: SparkSession) -> None:
    first = indexes.extend(None, spark.createDataFrame([("b",), ("d",)], "id string"), "id", "n").localCheckpoint()
    later = spark.createDataFrame([("c",), ("b",), ("a",)], "id string").repartition(5)
    second = indexes.extend(first, later, "id", "n")
    assert {row["id"]: row["n"] for row in second.collect()} == {"b": 0, "d": 1, "a": 2, "c": 3}


def test_numbers_do_not_depend_on_partitions(spark: SparkSession) -> None:
    ids = spark.range(1_000).select(F.col("id").cast("string").alias("id"))
    numbers = [
        {row["id"]: row["n"] for row in indexes.extend(None, ids.repartition(parts), "id", "n").collect()}
        for parts in (1, 7)
    ]
    assert numbers[0] == numbers[1] == {name: n for n, name in enumerate(sorted(map(str, range(1_000))))}


def test_features_of_an_old_id_are_brought_up_to_date_and_never_lost(spark: SparkSession) -> None:
    old = spark.createDataFrame([(0, "a", "old"), (1, "b", "kept")], "n int, id string, title string")
    listed = spark.createDataFrame([("a", "new"), ("b", None)], "id string, title string")
    found = {row["id"]: (row["n"], row["title"]) for row in indexes.extend(old, listed, "id", "n").collect()}
    assert found == {"a": (0, "new"), "b": (1, "kept")}


def test_sequences_hold_the_last_events_oldest_first_and_zeros_behind(spark: SparkSession) -> None:
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
    assert made.columns == schemas.SEQUENCES.names
    long, short = sorted(made.collect(), key=lambda row: row["user_index"])
    assert (long["length"], long["item_index"], long["hour"]) == (4, [2, 3, 4, 5], [7, 8, 9, 10])
    assert (short["length"], short["item_index"], short["weekday"]) == (2, [0, 1, 0, 0], [3, 3, 0, 0])
    assert short["strength"] == [-1.0, -1.0, 0.0, 0.0]
    assert short["gap_log"][0] == 0.0
    assert abs(short["gap_log"][1] - 8.18897) < 1e-5
    assert short["event_seconds"][:2] == [START.timestamp(), START.timestamp() + 3600]
    assert long["last_event_time"] == datetime(2026, 1, 1, 10)
