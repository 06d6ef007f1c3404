"""What is done about dwell and rating where a source has them, but not in this record."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from math import fsum
from typing import Any, Literal

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from halflife.config import MissingConfig, SessionizeConfig
from halflife.transformations import missing
from raw_records import DATED, DAY, NOON, SOURCES, TYPES, raw, record

Strategy = Literal["leave", "drop", "mean", "median", "model"]
Group = Literal["all", "event_type", "item"]


def accepted(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    return raw(spark, *rows).withColumn("reason", F.lit(None).cast("string"))


def of_dwell(strategy: Strategy, by: Group = "event_type") -> SessionizeConfig:
    return SessionizeConfig(missing_dwell=MissingConfig(strategy=strategy, by=by))


def filled(frame: DataFrame, config: SessionizeConfig) -> dict[str, Row]:
    """The rows by their `raw`, none of them lost or copied."""
    rows = missing.fill(frame, config, SOURCES, TYPES).collect()
    assert len(rows) == frame.count()
    return {row["raw"]: row for row in rows}


def lacking(raw: str, **changes: Any) -> dict[str, Any]:
    return record(raw=raw, **changes)


def known(*values: float, **changes: Any) -> list[dict[str, Any]]:
    return [record(dwell_seconds=value, raw=f"{value}", **changes) for value in values]


def test_by_default_what_is_missing_stays_missing_and_costs_two_constant_columns(spark: SparkSession) -> None:
    frame = accepted(spark, *known(3.0), lacking("x"))
    done = missing.fill(frame, SessionizeConfig(), SOURCES, TYPES)
    plan = done._jdf.queryExecution().optimizedPlan().toString()
    assert "Join" not in plan
    assert "Aggregate" not in plan
    rows = {row["raw"]: row for row in done.collect()}
    assert (rows["x"]["dwell_seconds"], rows["3.0"]["dwell_seconds"]) == (None, 3.0)
    assert {(row["dwell_imputed"], row["rating_imputed"]) for row in rows.values()} == {(False, False)}


def test_a_record_that_lacks_what_its_source_has_is_dropped_with_its_reason(spark: SparkSession) -> None:
    drop = MissingConfig(strategy="drop")
    config = SessionizeConfig(missing_dwell=drop, missing_rating=drop)
    no_dwell = DATED.model_copy(update={"columns": DATED.columns.model_copy(update={"dwell_seconds": None})})
    rows = [
        record(raw="all", dwell_seconds=0.0, rating=1.0),
        record(raw="no dwell", rating=1.0),
        record(raw="no rating", dwell_seconds=0.0),
        record(raw="neither"),
        record(raw="other", rating=1.0, source="other"),
        record(raw="other, no rating", source="other"),
    ]
    frame = accepted(spark, *rows).withColumn("reason", F.when(F.col("raw") == "neither", "too_late"))
    done = missing.fill(frame, config, {**SOURCES, "other": no_dwell}, TYPES)
    assert {row["raw"]: row["reason"] for row in done.collect()} == {
        "all": None,
        "no dwell": "missing_dwell",
        "no rating": "missing_rating",
        "neither": "too_late",
        "other": None,
        "other, no rating": "missing_rating",
    }


@pytest.mark.parametrize(("strategy", "expected"), [("mean", 4.0), ("median", 2.5)])
def test_mean_and_median_of_the_group_fill_the_gap_and_say_so(
    spark: SparkSession, strategy: Strategy, expected: float
) -> None:
    frame = accepted(spark, *known(1.0, 2.0, 3.0, 10.0), *known(100.0, event_type="buy"), lacking("x"))
    rows = filled(frame, of_dwell(strategy))
    assert (rows["x"]["dwell_seconds"], rows["x"]["dwell_imputed"], rows["x"]["rating_imputed"]) == (
        expected,
        True,
        False,
    )
    assert [rows[f"{value}"]["dwell_seconds"] for value in (1.0, 100.0)] == [1.0, 100.0]
    assert not any(row["dwell_imputed"] for name, row in rows.items() if name != "x")


@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_where_a_group_knows_nothing_the_next_is_asked(spark: SparkSession, strategy: Strategy) -> None:
    frame = accepted(
        spark,
        *known(1.0, item_id="i"),
        *known(2.0, item_id="j"),
        *known(6.0, event_type="buy", item_id="k"),
        lacking("item", item_id="i"),
        lacking("type", item_id="new", event_type="buy"),
        lacking("all", item_id="new", event_type="cancel"),
        lacking("none", arrival_day=DAY + timedelta(days=1)),
    )
    found = {by: filled(frame, of_dwell(strategy, by)) for by in ("item", "event_type", "all")}
    of_all = 3.0 if strategy == "mean" else 2.0
    values = {
        by: [rows[name]["dwell_seconds"] for name in ("item", "type", "all", "none")] for by, rows in found.items()
    }
    assert values == {
        "item": [1.0, 6.0, of_all, None],
        "event_type": [1.5, 6.0, of_all, None],
        "all": [of_all, of_all, of_all, None],
    }
    assert not found["all"]["none"]["dwell_imputed"]


def test_estimates_come_from_accepted_records_of_the_same_source_and_arrival_day(spark: SparkSession) -> None:
    rows = [
        *known(1.0),
        *known(50.0, arrival_day=DAY + timedelta(days=1)),
        *known(70.0, source="other"),
        *known(90.0, user_id="rejected"),
        *known(5.0, arrival_day=None),
        lacking("x"),
        lacking("undated", arrival_day=None, event_time=NOON + timedelta(days=1)),
    ]
    rejected = F.when(F.col("user_id") == "rejected", "bot_like_user")
    frame = accepted(spark, *rows).withColumn("reason", rejected)
    done = missing.fill(frame, of_dwell("mean"), {**SOURCES, "other": DATED}, TYPES)
    values = {row["raw"]: row["dwell_seconds"] for row in done.collect()}
    assert values["x"] == 3.0  # of 1 and, by its own day, 5
    assert values["undated"] == 50.0


def test_what_is_imputed_for_one_column_is_no_evidence_for_the_other(spark: SparkSession) -> None:
    mean = MissingConfig(strategy="mean", by="all")
    rows = [record(raw="a", dwell_seconds=2.0), record(raw="b", rating=4.0)]
    found = filled(accepted(spark, *rows), SessionizeConfig(missing_dwell=mean, missing_rating=mean))
    assert [(row["dwell_seconds"], row["rating"]) for row in found.values()] == [(2.0, 4.0)] * 2
    assert [(row["dwell_imputed"], row["rating_imputed"]) for row in found.values()] == [(False, True), (True, False)]


def test_a_mean_is_the_same_to_the_last_bit_in_whatever_order_the_records_come(spark: SparkSession) -> None:
    draw = random.Random(11)
    values = {f"i{number}": [draw.uniform(0.0, 86_400.0) for _ in range(30)] for number in range(60)}
    rows = [row for item, of_item in values.items() for row in known(*of_item, item_id=item)]
    rows += [lacking(item, item_id=item) for item in values]
    found = [
        {
            row["item_id"]: row["dwell_seconds"]
            for row in filled(frame, of_dwell("mean", "item")).values()
            if row["dwell_imputed"]
        }
        for frame in (
            accepted(spark, *rows).repartition(1),
            accepted(spark, *draw.sample(rows, len(rows))).repartition(5),
        )
    ]
    assert found[0] == found[1]
    assert found[0] == pytest.approx({item: fsum(of_item) / len(of_item) for item, of_item in values.items()})


def regular_log(days: int = 1) -> list[dict[str, Any]]:
    """Dwell depends on the type and on the hour, rating on the dwell; every ninth record lacks one of them."""
    draw, rows = random.Random(5), []
    for number in range(540):
        kind, hour, day = draw.choice(["view", "buy"]), draw.randrange(24), number % days
        dwell = (100.0 if kind == "buy" else 20.0) * (2.0 if hour >= 12 else 1.0)
        rows.append(
            record(
                raw=f"{number} {dwell}",
                event_type=kind,
                item_id=f"i{number}",
                arrival_day=DAY + timedelta(days=day),
                event_time=datetime(2026, 1, 10 + day, hour, draw.randrange(60), tzinfo=UTC),
                dwell_seconds=None if number % 9 == 0 else dwell,
                rating=None if number % 9 == 5 else 1.0 + 4.0 * (dwell > 90.0),
            )
        )
    return rows


def test_a_model_predicts_what_the_other_columns_tell(spark: SparkSession) -> None:
    rows = filled(accepted(spark, *regular_log()), of_dwell("model"))
    imputed = [row for row in rows.values() if row["dwell_imputed"]]
    assert len(imputed) == 60
    for row in imputed:
        assert row["dwell_seconds"] == pytest.approx(float(row["raw"].split()[1]), rel=0.2)


def test_a_prediction_stays_within_the_bounds(spark: SparkSession) -> None:
    config = SessionizeConfig(missing_rating=MissingConfig(strategy="model"))
    rows = [
        record(raw=str(dwell), dwell_seconds=float(dwell), rating=min(dwell / 10.0, 5.0)) for dwell in range(10, 50)
    ]
    extremes = [record(raw="short", dwell_seconds=0.0), record(raw="long", dwell_seconds=80_000.0)]
    found = filled(accepted(spark, *rows, *extremes), config)
    assert [found[name]["rating"] for name in ("short", "long")] == [1.0, 5.0]


def test_a_model_is_the_same_to_the_last_bit_in_whatever_order_and_company_the_records_come(
    spark: SparkSession,
) -> None:
    model = MissingConfig(strategy="model")
    config = SessionizeConfig(missing_dwell=model, missing_rating=model)
    rows = regular_log(days=2)
    shuffled = random.Random(1).sample(rows, len(rows))
    first_day = [row for row in rows if row["arrival_day"] == DAY]

    def estimates(frame: DataFrame) -> Counter[tuple[str, float, float]]:
        found = filled(frame, config).values()
        return Counter((row["raw"], row["dwell_seconds"], row["rating"]) for row in found if row["arrival_day"] == DAY)

    one = estimates(accepted(spark, *rows).repartition(1))
    assert estimates(accepted(spark, *shuffled).repartition(5)) == one
    assert estimates(accepted(spark, *first_day)) == one


def test_a_model_of_a_day_that_knows_nothing_leaves_the_gap(spark: SparkSession) -> None:
    rows = [*known(5.0), lacking("x"), lacking("none", arrival_day=DAY + timedelta(days=1))]
    found = filled(accepted(spark, *rows), of_dwell("model"))
    assert found["x"]["dwell_seconds"] == pytest.approx(5.0)
    assert (found["none"]["dwell_seconds"], found["none"]["dwell_imputed"]) == (None, False)
    nothing = filled(accepted(spark, lacking("x")), of_dwell("model"))
    assert nothing["x"]["dwell_seconds"] is None
