"""The memory of (user, item) pairs as a commutative monoid: decay the older to the newer, then add."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife import schemas

MICROS_PER_DAY = 86_400_000_000.0

# A state's fields, in the order in which the states of a pair are sorted: by time first. Nulls are
# allowed, though there are none: Spark's fold wants one type from step to step, and takes a sum to be nullable.
STATE = T.StructType(
    [
        T.StructField("anchor_time", T.TimestampType()),
        T.StructField("event_count", T.LongType()),
        T.StructField("revived", T.BooleanType()),
        T.StructField("positive", T.ArrayType(T.DoubleType())),
        T.StructField("negative", T.ArrayType(T.DoubleType())),
    ]
)
FIELDS = tuple(STATE.names)


def merge(states: DataFrame, half_lives_days: Sequence[float], retained_share: float, silence_days: float) -> DataFrame:
    """Add up the states of each pair, in the columns of `schemas.MEMORY`.

    `states` holds any number of rows a pair: a stored state, and the jumps of single events (event_count 1, not
    revived). They are folded in the order of time, each decay one step from one event to the next: the very
    steps that one night after the other takes, so that N nights and one rebuild give the same bits.

    A pair is revived where its newest event ended a silence of at least `silence_days` in which its positive memory
    had faded below `retained_share` of what it was.
    """
    parts = states.groupBy("user_index", "item_index").agg(
        F.array_sort(F.collect_list(F.struct(*FIELDS))).alias("parts")
    )

    def fold(state: Column, event: Column) -> Column:
        days = (F.unix_micros(event["anchor_time"]) - F.unix_micros(state["anchor_time"])) / MICROS_PER_DAY
        faded = {name: _decayed(state[name], days, half_lives_days) for name in ("positive", "negative")}
        retained = _total(faded["positive"]) < _total(state["positive"]) * retained_share
        merged = F.struct(
            event["anchor_time"].alias("anchor_time"),
            (state["event_count"] + event["event_count"]).alias("event_count"),
            (retained & (days >= silence_days)).alias("revived"),
            *(_sum(faded[name], event[name]).alias(name) for name in faded),
        )
        return merged.cast(STATE)

    first = F.element_at("parts", 1)
    rest = F.slice("parts", 2, F.size("parts"))
    merged = parts.select("user_index", "item_index", F.aggregate(rest, first.cast(STATE), fold).alias("state"))
    return merged.select("user_index", "item_index", "state.*").select(*schemas.MEMORY.names)


def _decayed(values: Column, days: Column, half_lives_days: Sequence[float]) -> Column:
    left = F.array(*(F.pow(F.lit(2.0), days / -half_life) for half_life in half_lives_days))
    return F.zip_with(values, left, lambda value, share: value * share)


def _sum(left: Column, right: Column) -> Column:
    return F.zip_with(left, right, lambda a, b: a + b)


def _total(values: Column) -> Column:
    return F.aggregate(values, F.lit(0.0), lambda total, value: total + value)
