"""Each bad record gets the reason of the first rule that it breaks, and none is lost."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from halflife import schemas
from halflife.config import SessionizeConfig, SourceConfig
from halflife.transformations import bots, cleaning
from raw_records import DATED, DAY, NIGHT, NOON, TYPES, UNDATED, raw, record

CONFIG = SessionizeConfig(event_time_floor=date(2025, 12, 1), max_id_length=4, future_tolerance_seconds=60.0)
MICRO = timedelta(microseconds=1)
END_OF_DAY = datetime(2026, 1, 11, tzinfo=UTC)
NAN, INF = float("nan"), float("inf")


def judge(
    spark: SparkSession, *records: dict[str, Any], source: SourceConfig = DATED, config: SessionizeConfig = CONFIG
) -> DataFrame:
    return cleaning.judge(raw(spark, *records), source, TYPES, NIGHT, config)


def reasons(frame: DataFrame) -> list[str | None]:
    return [row["reason"] for row in frame.select("reason").collect()]


WRONG: dict[str, list[dict[str, Any]]] = {
    "malformed_line": [{"fault": "malformed_line", "user_id": None}],
    "invalid_encoding": [{"fault": "invalid_encoding"}],
    "missing_user": [{"user_id": text} for text in (None, "", " ", "\t\u3000\u00a0\n", "\x85")],
    "missing_item": [{"item_id": text} for text in (None, "", "\u2003")],
    "missing_time": [{"event_time": None, "time_text": text} for text in (None, "", " \t")],
    "unparsable_time": [{"event_time": None, "time_text": "yesterday"}],
    "time_before_floor": [{"event_time": datetime(2025, 12, 1, tzinfo=UTC) - MICRO}],
    "time_after_as_of": [{"event_time": END_OF_DAY + timedelta(seconds=60)}],
    "too_late": [{"event_time": END_OF_DAY - timedelta(days=3) - MICRO}],
    "unknown_event_type": [{"event_type": text} for text in ("teleport", None, "", "View")],
    "unparsable_dwell": [
        {"dwell_text": "long"},
        *({"dwell_seconds": value, "dwell_text": None} for value in (NAN, INF, -INF)),
    ],
    "dwell_out_of_range": [{"dwell_seconds": value, "dwell_text": "x"} for value in (-1e-9, 86_400.1)],
    "unparsable_rating": [{"rating_text": "good"}, {"rating": NAN}, {"rating": -INF}],
    "rating_out_of_range": [{"rating": 0.99}, {"rating": 5.01}],
    "unparsable_quantity": [{"quantity_text": "some"}, *({"quantity": value} for value in (NAN, INF, 0.0, -0.0))],
    "id_too_long": [{name: "12345"} for name in ("user_id", "item_id", "event_id", "given_session_id")],
}
RIGHT: list[dict[str, Any]] = [
    {"event_time": END_OF_DAY - MICRO},
    {"event_time": END_OF_DAY + timedelta(seconds=60) - MICRO},
    {"event_time": END_OF_DAY - timedelta(days=3)},
    {"dwell_text": " "},
    {"dwell_seconds": 0.0, "dwell_text": "0"},
    {"dwell_seconds": 86_400.0},
    {"rating": 1.0},
    {"rating": 5.0},
    {"quantity": -3.0},
    {"user_id": " u "},
    {"user_id": "äöüß", "item_id": "\U0001f600" * 4},  # four letters, however many bytes
    {"item_id": "~"},
    {"user_id": "\x00"},
]


def test_a_bad_field_is_quarantined_with_its_reason_and_its_text(spark: SparkSession) -> None:
    wrong = [(reason, change) for reason, changes in WRONG.items() for change in changes]
    frame = judge(spark, *(record(**change) for _, change in wrong))
    assert list(zip(reasons(frame), (change for _, change in wrong), strict=True)) == wrong
    quarantine = cleaning.quarantined(frame)
    assert quarantine.columns == schemas.QUARANTINE.names
    assert Counter(row["raw"] for row in quarantine.collect()) == {"text": len(wrong)}


def test_what_lies_just_within_the_bounds_is_accepted_as_it_came(spark: SparkSession) -> None:
    frame = judge(spark, *(record(**change) for change in RIGHT))
    assert list(zip(reasons(frame), RIGHT, strict=True)) == [(None, change) for change in RIGHT]
    ids = [(row["user_id"], row["item_id"]) for row in frame.where("reason IS NULL").collect()]
    assert ids == [(change.get("user_id", "u"), change.get("item_id", "i")) for change in RIGHT]


def test_the_first_rule_that_fits_is_the_reason(spark: SparkSession) -> None:
    order = ["malformed_line", "missing_user", "missing_item", "missing_time", "unknown_event_type"]
    order += ["unparsable_dwell", "unparsable_rating", "unparsable_quantity", "id_too_long"]
    changes = {"id_too_long": {"event_id": "12345"}, **{name: WRONG[name][0] for name in order[1:-1]}}
    changes["malformed_line"] = {"fault": "malformed_line"}
    broken: list[dict[str, Any]] = []
    for name in reversed(order):
        broken.insert(0, {**(broken[0] if broken else record()), **changes[name]})
    assert reasons(judge(spark, *broken)) == order


def test_exactly_at_the_floor_is_in_time(spark: SparkSession) -> None:
    old = record(arrival_day=None, event_time=datetime(2025, 12, 1, tzinfo=UTC))
    assert reasons(judge(spark, old, source=UNDATED)) == [None]


def test_lateness_is_judged_by_the_day_of_the_file_whatever_the_night(spark: SparkSession) -> None:
    early = date(2026, 1, 5)
    rows = [
        record(arrival_day=early, event_time=datetime(2026, 1, day, hour, tzinfo=UTC))
        for day, hour in ((2, 23), (3, 0), (5, 23), (6, 1))
    ]
    expected = ["too_late", None, None, "time_after_as_of"]
    assert reasons(judge(spark, *rows)) == expected
    alone = cleaning.judge(raw(spark, *rows), DATED, TYPES, early + timedelta(days=1), CONFIG)
    assert reasons(alone) == expected


def test_a_file_without_a_day_is_never_late_and_ends_with_the_night(spark: SparkSession) -> None:
    rows = [record(arrival_day=None, event_time=time) for time in (NOON - timedelta(days=30), NOON, END_OF_DAY)]
    strict = SessionizeConfig()
    assert reasons(judge(spark, *rows, source=UNDATED, config=strict)) == [None, None, "time_after_as_of"]


def test_an_unknown_type_becomes_the_default_and_a_known_one_stays(spark: SparkSession) -> None:
    config = SessionizeConfig(default_event_type="view")
    rows = [record(event_type=text) for text in ("teleport", None, "buy")]
    frame = judge(spark, *rows, config=config)
    assert [(row["event_type"], row["reason"]) for row in frame.collect()] == [
        ("view", None),
        ("view", None),
        ("buy", None),
    ]


def test_columns_that_the_source_does_not_map_have_no_rules(spark: SparkSession) -> None:
    only = DATED.columns.model_copy(update={"dwell_seconds": None, "event_type": None})
    source = DATED.model_copy(update={"columns": only, "event_type": "view"})
    rows = [record(dwell_text="long"), record(event_type="teleport"), record(rating=9.0)]
    assert reasons(judge(spark, *rows, source=source)) == [None, None, "rating_out_of_range"]


def test_every_row_read_is_accepted_or_quarantined(spark: SparkSession) -> None:
    good = [record(source_file=name) for name in ("a.csv", "a.csv", "b.csv")]
    bad = [record(source_file="b.csv", **change) for changes in WRONG.values() for change in changes]
    frame = judge(spark, *good, *bad)
    read = {row["source_file"]: row["rows_read"] for row in cleaning.rows_read(raw(spark, *good, *bad)).collect()}
    found = Counter(row["source_file"] for row in frame.where("reason IS NULL").collect())
    found.update(row["source_file"] for row in cleaning.quarantined(frame).collect())
    assert read == found == {"a.csv": 2, "b.csv": 1 + len(bad)}


def test_records_are_judged_in_one_generated_pass_without_python(spark: SparkSession) -> None:
    frame = judge(spark, record())
    plan = frame._jdf.queryExecution().executedPlan().toString()
    assert "Python" not in plan
    assert "Exchange" not in plan
    # Each rule once.
    assert plan.count("rating_out_of_range") == plan.count("too_late") == 1


def bot_log() -> list[dict[str, Any]]:
    at = {name: [] for name in ("calm", "hasty", "steady", "old")}
    at["calm"] = [NOON + timedelta(seconds=second) for second in (0, 1, 59)]  # three in a minute
    at["hasty"] = [NOON + timedelta(seconds=second) for second in (0, 1, 2, 59)]  # four
    at["steady"] = [NOON + timedelta(hours=hour) for hour in range(-5, 6)]  # eleven on a day
    at["old"] = [NOON - timedelta(days=day % 2, hours=day) for day in range(10)]  # ten on two days
    return [record(user_id=user, event_time=time) for user, times in at.items() for time in times]


@pytest.mark.parametrize(
    ("minute", "day", "flagged"),
    [(3, None, {"hasty"}), (4, None, set()), (None, 10, {"steady"}), (None, 11, set()), (3, 10, {"hasty", "steady"})],
)
def test_more_events_than_the_bound_make_a_bot_and_exactly_as_many_do_not(
    spark: SparkSession, minute: int | None, day: int | None, flagged: set[str]
) -> None:
    config = SessionizeConfig(max_events_per_minute=minute, max_events_per_day=day)
    frame = bots.flag(judge(spark, *bot_log(), config=SessionizeConfig(max_id_length=9)), config)
    assert frame.count() == len(bot_log())
    found = {(row["user_id"], row["reason"]) for row in frame.collect()}
    assert found == {
        (user, "bot_like_user" if user in flagged else None) for user in ("calm", "hasty", "steady", "old")
    }


def test_bots_are_counted_by_accepted_records_of_one_arrival_day(spark: SparkSession) -> None:
    config = SessionizeConfig(max_events_per_minute=3)
    bot = [record(user_id="bot", event_time=NOON)] * 4
    other_day = [record(user_id="bot", arrival_day=DAY + timedelta(days=1))] * 3
    broken = [record(user_id="bot", rating=9.0), record(user_id="odd", rating=9.0)]
    odd = [record(user_id="odd")] * 3
    undated = [record(user_id="x", arrival_day=None, event_time=NOON + timedelta(days=day)) for day in (0, 0, 0, -1)]
    frame = bots.flag(judge(spark, *bot, *other_day, *broken, *odd, *undated), config)
    found = Counter((row["user_id"], str(row["arrival_day"]), row["reason"]) for row in frame.collect())
    assert found == {
        ("bot", "2026-01-10", "bot_like_user"): 4,
        ("bot", "2026-01-10", "rating_out_of_range"): 1,
        ("bot", "2026-01-11", None): 3,
        ("odd", "2026-01-10", "rating_out_of_range"): 1,
        ("odd", "2026-01-10", None): 3,
        ("x", "None", None): 4,
    }


def test_without_bounds_nobody_is_counted(spark: SparkSession) -> None:
    frame = judge(spark, record())
    assert bots.flag(frame, SessionizeConfig()) is frame
