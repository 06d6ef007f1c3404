"""The memory's monoid on Spark: nights one by one, one rebuild, any partitions, and what counts as a revival."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from halflife import decay, schemas
from halflife.memory import Pace
from halflife.transformations import memory

HALF_LIVES = np.array([1 / 24, 7.0, 90.0])
PACE = Pace(HALF_LIVES, horizon_days=7.0, retained_share=0.25, silence_days=30.0)
START = datetime(2026, 1, 1, tzinfo=UTC)


def state(day: float, positive: float, user: int = 0, item: int = 0, negative: float = 0.0) -> tuple[Any, ...]:
    """One event's jump as a row of the memory table."""
    channels = len(HALF_LIVES)
    time, jump = START + timedelta(days=day), [positive] * channels
    return (user, item, time, jump, [negative] * channels, 1, False, time, 2, jump, None)


def merged(spark: SparkSession, *parts: DataFrame) -> list[Row]:
    union = parts[0]
    for part in parts[1:]:
        union = union.unionByName(part)
    result = memory.merge(union, PACE, faded_below=0.001)
    return sorted(result.collect(), key=lambda row: (row["user_index"], row["item_index"]))


def frame(spark: SparkSession, rows: list[tuple[Any, ...]]) -> DataFrame:
    return spark.createDataFrame(rows, schemas.MEMORY)


def test_nights_one_by_one_are_one_rebuild_bit_for_bit(spark: SparkSession) -> None:
    chance = random.Random(5)
    rows = [
        state(chance.uniform(0, 60), chance.random(), chance.randrange(5), chance.randrange(3), chance.random())
        for _ in range(400)
    ]
    nights = [
        [row for row in rows if START + timedelta(days=20 * n) <= row[2] < START + timedelta(days=20 * (n + 1))]
        for n in range(3)
    ]
    built = frame(spark, nights[0])
    for night in nights[1:]:
        known = spark.createDataFrame(merged(spark, built), schemas.MEMORY)
        built = known.unionByName(frame(spark, night))
    chance.shuffle(rows)
    rebuilt = merged(spark, frame(spark, rows).repartition(7))
    assert merged(spark, built) == rebuilt
    assert sum(row["event_count"] for row in rebuilt) == len(rows)


def test_the_sum_is_that_of_the_closed_form(spark: SparkSession) -> None:
    rows = [state(0.0, 2.0, negative=1.0), state(3.5, 0.5), state(10.0, 1.0)]
    (row,) = merged(spark, frame(spark, rows))
    expected = sum(
        np.asarray(r[3]) * decay.decay((rows[-1][2] - r[2]).total_seconds() / 86_400, HALF_LIVES) for r in rows
    )
    np.testing.assert_allclose(row["positive"], expected, rtol=1e-14)
    np.testing.assert_allclose(row["negative"], decay.decay(10.0, HALF_LIVES), rtol=1e-14)
    assert row["anchor_time"] == rows[-1][2].replace(tzinfo=None)


def test_the_leading_event_and_the_night_of_fading_are_in_the_state(spark: SparkSession) -> None:
    rows = [state(0.5, 2.0), state(3.5, 0.001), state(0.0, 0.0, item=1, negative=1.0)]
    first, second = merged(spark, frame(spark, rows))
    assert (first["leading_time"], first["leading"]) == (rows[0][2].replace(tzinfo=None), [2.0] * 3)
    assert first["leading_type"] == 2
    days = np.arange(1, 3_000)
    left = sum(
        (decay.decay_integral(days - at, HALF_LIVES, 7.0) * value).sum(axis=1)
        for at, value in ((0.5, 2.0), (3.5, 0.001))
    )
    assert first["faded_on"] == (START + timedelta(days=int(days[left < 0.001][0]))).date()
    assert second["faded_on"] is None


@pytest.mark.parametrize(
    ("days", "revived"),
    [
        ([0.0], False),  # a first event brings nothing back
        ([0.0, 29.0], False),  # the silence was too short
        ([0.0, 45.0], True),  # of the three channels 0, .01 and .71 are left: .24 on the whole
        ([0.0, 45.0, 46.0], False),  # the newest event did not end a silence
    ],
)
def test_a_pair_is_revived_by_an_event_after_a_long_silence(
    spark: SparkSession, days: list[float], revived: bool
) -> None:
    (row,) = merged(spark, frame(spark, [state(day, 1.0) for day in days]))
    assert row["revived"] is revived


def test_a_memory_that_kept_its_strength_is_not_revived(spark: SparkSession) -> None:
    slow = [(*row[:3], [0.0, 0.0, 1.0], *row[4:]) for row in (state(0.0, 1.0), state(40.0, 1.0))]
    (row,) = merged(spark, frame(spark, slow))
    assert row["revived"] is False
