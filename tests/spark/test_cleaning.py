"""Raw files through sources and cleaning: each bad record gets its reason, none is lost."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from halflife import audit, sources
from halflife.config import ColumnsConfig, EventTypeConfig, SessionizeConfig, SourceConfig
from halflife.errors import AuditError, InputMissingError
from halflife.transformations import cleaning

TYPES = {"view": EventTypeConfig(weight=1.0), "cancel": EventTypeConfig(weight=-2.0)}
COLUMNS = ColumnsConfig(user="user", item="item", time="time", event_type="type", dwell_seconds="dwell")
NIGHT = date(2026, 1, 2)
GOOD = ("u", "i", "2026-01-01T10:00:00Z", "view", "3.5")


def csv(path: Path, *rows: tuple[str, ...]) -> SourceConfig:
    path.write_text("\n".join(",".join(row) for row in [("user", "item", "time", "type", "dwell"), *rows]) + "\n")
    return SourceConfig(path=str(path), format="csv", columns=COLUMNS)


def judged(spark: SparkSession, source: SourceConfig) -> DataFrame:
    raw = sources.read(spark, sources.find("log", source, None, NIGHT))
    return cleaning.judge(raw, NIGHT, TYPES, SessionizeConfig())


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (0, "", "missing_user"),
        (1, " ", "missing_item"),
        (2, "", "missing_time"),
        (2, "yesterday", "unparsable_time"),
        (2, "1880-01-01T00:00:00Z", "time_before_floor"),
        (2, "2026-01-02T00:00:00Z", "time_after_as_of"),
        (3, "teleport", "unknown_event_type"),
        (3, "", "unknown_event_type"),
        (4, "long", "unparsable_dwell"),
        (4, "NaN", "unparsable_dwell"),
        (4, "-1", "dwell_out_of_range"),
        (4, "1e9", "dwell_out_of_range"),
    ],
)
def test_a_bad_field_is_quarantined_with_its_reason_and_its_text(
    spark: SparkSession, tmp_path: Path, place: int, value: str, reason: str
) -> None:
    bad = (*GOOD[:place], value, *GOOD[place + 1 :])
    frame = judged(spark, csv(tmp_path / "log.csv", GOOD, bad))
    (row,) = cleaning.quarantined(frame).collect()
    assert row["reason"] == reason
    assert row["source_file"].endswith("log.csv")
    kept = {name: text for name, text in zip(("user", "item", "time", "type", "dwell"), bad, strict=True) if text}
    assert json.loads(row["raw"]) == kept
    assert cleaning.accepted(frame).count() == 1


def test_a_line_with_too_many_fields_is_malformed_and_kept_as_it_was(spark: SparkSession, tmp_path: Path) -> None:
    frame = judged(spark, csv(tmp_path / "log.csv", GOOD, (*GOOD, "more")))
    (row,) = cleaning.quarantined(frame).collect()
    assert (row["reason"], row["raw"]) == ("malformed_line", ",".join([*GOOD, "more"]))


def test_times_without_a_zone_are_in_the_source_s_zone(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        {"user": "u", "item": "i", "time": t, "type": "view"}
        for t in ("2025-07-01 12:00:00", "2025-07-01T12:00:00+01:00")
    ]
    with gzip.open(tmp_path / "log.json.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    source = SourceConfig(
        path=str(tmp_path / "*.gz"),
        format="json",
        columns=ColumnsConfig(user="user", item="item", time="time", event_type="type"),
        time_zone="Europe/London",
    )
    seconds = [row[0] for row in judged(spark, source).select(F.unix_seconds("event_time")).collect()]
    assert seconds == [datetime(2025, 7, 1, 11, tzinfo=UTC).timestamp()] * 2


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2025-07-01 12:00:00+01", datetime(2025, 7, 1, 11, tzinfo=UTC)),
        ("2025-07-01T12:00:00.5+0100", datetime(2025, 7, 1, 11, 0, 0, 500_000, tzinfo=UTC)),
        ("2025-07-01 12:00:00 Europe/Paris", datetime(2025, 7, 1, 10, tzinfo=UTC)),
        ("2025-07-01", datetime(2025, 6, 30, 23, tzinfo=UTC)),  # midnight in London, in summer
        ("12:30", None),  # of which day? not of today's
        ("1751367600", None),
    ],
)
def test_a_time_text_means_one_instant_or_none(
    spark: SparkSession, tmp_path: Path, text: str, instant: datetime | None
) -> None:
    source = csv(tmp_path / "log.csv", (*GOOD[:2], text, *GOOD[3:])).model_copy(update={"time_zone": "Europe/London"})
    (row,) = judged(spark, source).select(F.unix_micros("event_time").alias("micros")).collect()
    assert row["micros"] == (None if instant is None else instant.timestamp() * 1e6)


def test_event_ids_count_within_their_source_and_blank_ones_not_at_all(spark: SparkSession, tmp_path: Path) -> None:
    columns = COLUMNS.model_copy(update={"event_id": "dwell", "dwell_seconds": None})
    rows = [
        (*GOOD[:2], f"2026-01-01T0{hour}:00:00Z", "view", event_id) for hour, event_id in enumerate(["7", "7", "", ""])
    ]
    source = csv(tmp_path / "log.csv", *rows).model_copy(update={"columns": columns})
    one = cleaning.accepted(judged(spark, source))
    marked = cleaning.mark_duplicates(one.unionByName(one.withColumn("source", F.lit("other"))), published=None)
    kept = Counter(row["source"] for row in marked.where("not duplicate").collect())
    assert kept == {"log": 3, "other": 3}


def test_null_fields_do_not_make_different_records_equal(spark: SparkSession, tmp_path: Path) -> None:
    rows = [{"user": "u", "item": "i", "time": GOOD[2], "type": "view", name: 5} for name in ("dwell", "rating")]
    (tmp_path / "log.json").write_text("\n".join(map(json.dumps, rows)))
    columns = COLUMNS.model_copy(update={"rating": "rating"})
    source = SourceConfig(path=str(tmp_path / "log.json"), format="json", columns=columns)
    marked = cleaning.mark_duplicates(cleaning.accepted(judged(spark, source)), published=None)
    assert marked.where("duplicate").count() == 0


def test_files_whose_columns_stand_in_another_order_are_an_error(spark: SparkSession, tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", GOOD)
    (tmp_path / "b.csv").write_text("item,user,time,type,dwell\n" + ",".join(GOOD))
    source = SourceConfig(path=str(tmp_path / "*.csv"), format="csv", columns=COLUMNS)
    with pytest.raises(Py4JJavaError, match=r"CSV header does not conform to the schema[\s\S]*b\.csv"):
        judged(spark, source).collect()


def test_the_second_of_two_equal_records_is_a_duplicate_and_so_is_a_published_one(
    spark: SparkSession, tmp_path: Path
) -> None:
    other = ("v", *GOOD[1:])
    frame = judged(spark, csv(tmp_path / "log.csv", GOOD, GOOD, other))
    marked = cleaning.mark_duplicates(cleaning.accepted(frame), published=None)
    assert Counter(row["duplicate"] for row in marked.collect()) == {False: 2, True: 1}
    published = marked.where("user_id = 'v'")
    again = cleaning.mark_duplicates(cleaning.accepted(frame), published)
    assert {row["user_id"] for row in again.where("not duplicate").collect()} == {"u"}
    (counts,) = cleaning.intake_counts(frame, again).collect()
    assert (counts["rows_read"], counts["accepted"], counts["quarantined"], counts["duplicates"]) == (3, 1, 0, 2)


def test_a_lost_record_stops_the_run(spark: SparkSession, tmp_path: Path) -> None:
    frame = judged(spark, csv(tmp_path / "log.csv", GOOD, ("v", *GOOD[1:])))
    marked = cleaning.mark_duplicates(cleaning.accepted(frame), None)
    assert audit.intake_adds_up(cleaning.intake_counts(frame, marked))["accepted"] == 2
    with pytest.raises(AuditError, match=r"log\.csv: 2 rows read, but 1 accepted"):
        audit.intake_adds_up(cleaning.intake_counts(frame, marked.where("user_id = 'u'")))


def test_strength_is_the_signed_weight_of_the_type(spark: SparkSession, tmp_path: Path) -> None:
    frame = judged(spark, csv(tmp_path / "log.csv", GOOD, (*GOOD[:3], "cancel", "")))
    rows = cleaning.with_strength(cleaning.accepted(frame), TYPES).collect()
    assert {(row["event_type"], row["type_index"], row["strength"]) for row in rows} == {
        ("view", 0, 1.0),
        ("cancel", 1, -2.0),
    }


def test_a_json_field_that_no_record_has_is_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text(json.dumps({"user": "u", "item": "i", "time": GOOD[2], "type": "view"}))
    source = SourceConfig(path=str(tmp_path / "log.json"), format="json", columns=COLUMNS)
    with pytest.raises(InputMissingError, match=r"no column 'dwell' \(for dwell_seconds\)"):
        judged(spark, source)


def test_a_column_that_the_config_names_and_the_log_lacks_is_named(spark: SparkSession, tmp_path: Path) -> None:
    source = csv(tmp_path / "log.csv", GOOD).model_copy(
        update={"columns": COLUMNS.model_copy(update={"user": "customer"})}
    )
    with pytest.raises(InputMissingError, match=r"log: no column 'customer' \(for user\) in .*log\.csv; it has: user"):
        judged(spark, source)
