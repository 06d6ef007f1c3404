"""Which records are one event, wherever and whenever they turn up again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from halflife import schemas
from halflife.config import SourceConfig
from halflife.transformations import duplicates
from raw_records import DATED, DAY, NOON, SOURCES, UNDATED, raw, record, without_ids

BY_KEY = {"log": without_ids(DATED)}
OFF = {"log": DATED.model_copy(update={"duplicates": "off"})}
OFF_UNDATED = {"log": UNDATED.model_copy(update={"duplicates": "off"})}
LATE = timedelta(days=3)
Sources = Mapping[str, SourceConfig]


def records(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    """Accepted records; `imputed` names the columns whose values are no log's own."""
    frame = raw(spark, *rows)
    return frame.withColumns(
        {"reason": F.lit(None).cast("string"), "dwell_imputed": F.lit(False), "rating_imputed": F.lit(False)}
    )


def keys(frame: DataFrame, sources: Sources) -> list[int]:
    return [row["event_key"] for row in duplicates.event_keys(frame, sources).collect()]


def as_events(frame: DataFrame, copy: int = 0) -> DataFrame:
    """What the walk publishes of keyed records; `copy`: as the copy-th repeat of an event."""
    digits = F.lower(F.lpad(F.hex("event_key"), 16, "0"))
    suffix = F.lit(f"-{copy}" if copy else "")
    have = {
        "event_id": F.concat(F.coalesce("event_id", F.concat(F.lit("~"), digits)), suffix),
        "session_id": F.coalesce("given_session_id", F.lit("derived")),
        "session_given": F.col("given_session_id").isNotNull(),
    }
    return frame.withColumns(have).select(*(name for name in schemas.EVENTS.names if name in {*frame.columns, *have}))


DIFFERENT: list[dict[str, Any]] = [
    {},
    {"user_id": "v"},
    {"item_id": "j"},
    {"event_type": "buy"},
    {"event_time": NOON + timedelta(microseconds=1)},
    {"given_session_id": "5"},
    {"dwell_seconds": 5.0},
    {"rating": 5.0},
    {"quantity": 5.0},
    {"dwell_seconds": 5.0, "rating": 5.0},
    {"source": "other"},
]


def test_by_key_columns_any_other_value_makes_another_event_and_a_null_is_a_value(spark: SparkSession) -> None:
    found = keys(records(spark, *(record(**change) for change in DIFFERENT)), BY_KEY)
    assert len(set(found)) == len(DIFFERENT)


def test_by_key_columns_what_is_no_key_column_does_not_matter(spark: SparkSession) -> None:
    same = [record(), record(source_file="b.csv", arrival_day=DAY + timedelta(days=1), raw="other", context={"a": "b"})]
    assert len(set(keys(records(spark, *same), BY_KEY))) == 1


def test_imputed_values_are_not_part_of_the_key(spark: SparkSession) -> None:
    frame = records(spark, record())
    filled = frame.withColumns({name: F.lit(3.0) for name in ("dwell_seconds", "rating")})
    imputed = filled.withColumns({name: F.lit(True) for name in ("dwell_imputed", "rating_imputed")})
    assert keys(imputed, BY_KEY) == keys(frame, BY_KEY) != keys(filled, BY_KEY)


def test_by_event_id_the_id_of_a_source_and_user_is_the_event(spark: SparkSession) -> None:
    sources = {**SOURCES, "other": DATED}
    one = record(event_id="7")
    same = [one, record(event_id="7", item_id="j", dwell_seconds=3.0, event_time=NOON + timedelta(days=1))]
    others = [record(event_id="8"), record(event_id="7", user_id="v"), record(event_id="7", source="other")]
    found = keys(records(spark, *same, *others), sources)
    assert found[0] == found[1]
    assert len(set(found)) == 4


def test_by_event_id_records_without_one_are_told_apart_by_their_columns(spark: SparkSession) -> None:
    found = keys(records(spark, *(record(**change) for change in DIFFERENT)), {**SOURCES, "other": DATED})
    assert found[:-1] == keys(records(spark, *(record(**change) for change in DIFFERENT)), BY_KEY)[:-1]


@pytest.mark.parametrize(("sources", "repeats"), [(SOURCES, 0), (BY_KEY, 0), (OFF, 1), (OFF_UNDATED, 2)])
def test_repeats_are_real_where_the_source_says_so(spark: SparkSession, sources: Sources, repeats: int) -> None:
    frame = duplicates.event_keys(records(spark, record(event_id="7"), record(event_id="8")), sources)
    rows = frame.collect()
    assert frame.schema["repeats"].dataType.simpleString() == "tinyint"
    assert [row["repeats"] for row in rows] == [repeats] * 2
    assert len({row["event_key"] for row in rows}) == (1 if sources is BY_KEY else 2)
    assert [row["event_id"] for row in rows] == ([None, None] if repeats else ["7", "8"])


@pytest.mark.parametrize("sources", [SOURCES, BY_KEY, OFF, OFF_UNDATED])
def test_a_published_event_has_the_key_and_the_id_of_its_record(spark: SparkSession, sources: Sources) -> None:
    rows = [record(event_id=event_id, **change) for change in DIFFERENT[:-1] for event_id in (None, "7", "7-1", "~odd")]
    rows.append(record(event_id="~00000000deadbeef"))  # a published event that comes back as a log
    keyed = duplicates.event_keys(records(spark, *rows), sources)
    again = duplicates.event_keys(duplicates.published(as_events(keyed), sources), sources)
    names = ("event_key", "event_id", "repeats", "given_session_id")
    assert again.select(*names).collect() == keyed.select(*names).collect()


def test_a_published_copy_has_the_key_of_what_it_is_a_copy_of(spark: SparkSession) -> None:
    keyed = duplicates.event_keys(records(spark, record(event_id="7-1"), record()), OFF)
    copies = duplicates.event_keys(duplicates.published(as_events(keyed, copy=12), OFF), OFF)
    assert copies.select("event_key", "event_id").collect() == keyed.select("event_key", "event_id").collect()


def flagged(frame: DataFrame, published: DataFrame | None = None, sources: Sources = SOURCES) -> list[str]:
    """The `raw` of the records that are duplicates of events elsewhere."""
    keyed = duplicates.event_keys(frame, sources)
    past = None if published is None else duplicates.event_keys(published, sources)
    rows = duplicates.flag_repeated_ids(keyed, past, sources, LATE).collect()
    assert len(rows) == frame.count()
    return sorted(row["raw"] for row in rows if row["duplicate"])


def at(days: float, arrival: int = 0, **changes: Any) -> dict[str, Any]:
    """A record with the id 7, `days` from noon, whose `raw` says when it was and when it arrived."""
    fixed = {"event_time": NOON + timedelta(days=days), "arrival_day": DAY + timedelta(days=arrival), "event_id": "7"}
    return record(**{**fixed, "raw": f"{days} {arrival}", **changes})


def test_an_id_again_at_another_time_is_a_duplicate_of_what_arrived_first(spark: SparkSession) -> None:
    rows = [at(0, 1), at(-1, 2), at(0.5, 0), at(0, 1, user_id="v", raw="v"), at(0, 1, event_id="8", raw="8")]
    assert flagged(records(spark, *rows)) == ["-1 2", "0 1"]


def test_an_id_again_at_the_same_time_is_left_to_the_walk(spark: SparkSession) -> None:
    assert flagged(records(spark, at(0), at(0, 1), at(0, item_id="j"))) == []


def test_without_a_day_the_earlier_event_counts_and_one_with_a_day_before_it(spark: SparkSession) -> None:
    rows = [at(0.1, arrival_day=None, raw="late"), at(0, arrival_day=None, raw="first")]
    assert flagged(records(spark, *rows)) == ["late"]
    assert flagged(records(spark, *rows, at(0.2))) == ["first", "late"]


def test_rejected_records_neither_are_duplicates_nor_make_any(spark: SparkSession) -> None:
    frame = records(spark, at(0, 0), at(1, 1), at(2, 2))
    rejected = F.when(F.col("raw") != "1 1", "missing_item")
    assert flagged(frame.withColumn("reason", rejected)) == []


def test_an_id_counts_again_beyond_late_days_and_not_at_exactly_those(spark: SparkSession) -> None:
    days = (3.0, -3.0, 3.00001, -3.00001)
    first = records(spark, *(at(0, user_id=f"u{number}") for number in range(4)))
    second = records(spark, *(at(after, 5, user_id=f"u{number}") for number, after in enumerate(days)))
    assert flagged(second, first) == flagged(first.unionByName(second)) == ["-3.0 5", "3.0 5"]


def test_a_published_event_outlives_what_comes_later_of_the_same_id(spark: SparkSession) -> None:
    tonight = records(spark, at(-1, 2), at(1, 3), at(0, 3))
    assert flagged(tonight, records(spark, at(0))) == ["-1 2", "1 3"]


def test_by_key_columns_the_same_event_under_another_id_is_a_duplicate(spark: SparkSession) -> None:
    sources = {"log": DATED.model_copy(update={"duplicates": "key"})}
    rows = [record(event_id=event_id, raw=str(event_id)) for event_id in ("b", "a", None)]
    rows.append(record(event_id="c", item_id="j", raw="c"))
    assert len(flagged(records(spark, *rows), sources=sources)) == 2


def test_nights_one_by_one_keep_the_events_of_one_rebuild(spark: SparkSession) -> None:
    draw = random.Random(3)
    rows = [
        at(draw.randint(-40, 40) / 6, draw.randint(0, 2), user_id=f"u{user}", raw=str(number))
        for number, user in enumerate(user for user in range(400) for _ in range(draw.randint(1, 9)))
    ]
    events: list[dict[str, Any]] = []
    for night in range(3):
        tonight = [row for row in rows if row["arrival_day"] == DAY + timedelta(days=night)]
        marks = set(flagged(records(spark, *tonight), records(spark, *events) if events else None))
        events += [row for row in tonight if row["raw"] not in marks]
    marks = set(flagged(records(spark, *rows)))
    assert len(marks) > 400
    # At the same time the same id is one event: all but its first row are left to the walk.
    assert _places(events) == _places(row for row in rows if row["raw"] not in marks)


def _places(rows: Iterable[dict[str, Any]]) -> set[tuple[str, datetime]]:
    return {(row["user_id"], row["event_time"]) for row in rows}


@pytest.mark.parametrize("sources", [BY_KEY, OFF])
def test_where_ids_are_no_events_nothing_is_shuffled(spark: SparkSession, sources: Sources) -> None:
    marked = duplicates.flag_repeated_ids(duplicates.event_keys(records(spark, at(0)), sources), None, sources, LATE)
    plan = marked._jdf.queryExecution().executedPlan().toString()
    assert "Exchange" not in plan
    assert "Python" not in plan
    assert [row["duplicate"] for row in marked.collect()] == [False]


SETTLED = datetime(2026, 1, 8, tzinfo=UTC)


def old(
    spark: SparkSession, rows: list[dict[str, Any]], published: list[dict[str, Any]], sources: Sources
) -> dict[tuple[bool, str | None], int]:
    keyed = duplicates.event_keys(records(spark, *rows), sources).withColumn("duplicate", F.lit(False))
    past = duplicates.event_keys(records(spark, *published), sources)
    judged = duplicates.old_rows(keyed, past, SETTLED, sources)
    assert judged.columns == keyed.columns
    return Counter((row["duplicate"], row["reason"]) for row in judged.collect())


def undated(days: float, **changes: Any) -> dict[str, Any]:
    return at(days, **{"arrival_day": None, "event_id": None, **changes})


def test_what_a_whole_file_holds_of_settled_days_is_published_or_too_late(spark: SparkSession) -> None:
    sources = {"log": without_ids(UNDATED)}
    before = (SETTLED - NOON) / timedelta(days=1)
    rows = [undated(before), undated(-5), undated(-5), undated(-6), undated(-7, event_type="buy"), undated(-1)]
    published = [undated(-5), undated(-7)]
    # At the boundary and after it nothing is settled: two rows stay.
    assert old(spark, rows, published, sources) == {(True, None): 2, (False, "too_late"): 2, (False, None): 2}


def test_as_many_real_repeats_are_duplicates_as_are_published(spark: SparkSession) -> None:
    rows = [undated(-5, event_id="7")] * 3 + [undated(-5, event_id="8")]
    published = [undated(-5, event_id="7")] * 2
    assert old(spark, rows, published, OFF_UNDATED) == {(True, None): 2, (False, "too_late"): 2}


def test_old_rows_leaves_dated_rejected_and_known_duplicates_alone(spark: SparkSession) -> None:
    sources = {"log": without_ids(UNDATED)}
    frame = duplicates.event_keys(records(spark, at(-5), undated(-5), undated(-6)), sources)
    known = frame.withColumns(
        {
            "duplicate": F.col("event_time") == F.lit(NOON - timedelta(days=6)),
            "reason": F.when(F.col("arrival_day").isNull() & (F.col("raw") == "-5 0"), "missing_item"),
        }
    )
    judged = duplicates.old_rows(known, frame, SETTLED, sources)
    assert sorted(judged.collect(), key=str) == sorted(known.collect(), key=str)
    assert duplicates.old_rows(known, None, None, sources) is known
    assert duplicates.old_rows(known, frame, SETTLED, BY_KEY) is known
