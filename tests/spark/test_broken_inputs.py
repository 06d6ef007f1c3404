"""Every broken input ends in quarantine with a reason, or in an error that names the file; none in a stack trace."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from broken_inputs import ENDS_AT_ONCE, ENDS_IN_ROWS, ENDS_LATER, NIGHT, Case, Refused, csv, parquet
from halflife import sources
from halflife.config import EventTypeConfig, SessionizeConfig
from halflife.errors import HalflifeError
from halflife.sources.failures import explain
from halflife.transformations import cleaning

TYPES = {"view": EventTypeConfig(weight=1.0)}
Reads = Mapping[str, list[Row]]
CASES_PER_JOB = 12


def judged(spark: SparkSession, name: str, case: Case, folder: Path) -> DataFrame:
    source = case.source(folder)
    raw = sources.read(spark, sources.find(name, source, None, NIGHT))
    return cleaning.judge(raw, source, TYPES, NIGHT, SessionizeConfig()).select("source", "user_id", "reason", "raw")


@pytest.fixture(scope="module")
def read(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Reads:
    """The judged records of all cases that have some, several cases a Spark job."""
    found: dict[str, list[Row]] = {name: [] for name in ENDS_IN_ROWS}
    frames = []
    for name, case in ENDS_IN_ROWS.items():
        folder = tmp_path_factory.mktemp("case")
        case.write(folder)
        frames.append(judged(spark, name, case, folder))
    for start in range(0, len(frames), CASES_PER_JOB):
        for row in reduce(DataFrame.unionByName, frames[start : start + CASES_PER_JOB]).collect():
            found[row["source"]].append(row)
    return found


@pytest.mark.parametrize("name", ENDS_IN_ROWS)
def test_a_broken_record_is_quarantined_with_its_reason_and_no_other(read: Reads, name: str) -> None:
    case, rows = ENDS_IN_ROWS[name], read[name]
    assert sorted(str(row["reason"]) for row in rows) == sorted(map(str, case.reasons))
    assert all(row["raw"] for row in rows)
    if case.users is not None:
        assert sorted(row["user_id"] for row in rows if row["reason"] is None) == sorted(case.users)


@pytest.mark.parametrize("name", ENDS_AT_ONCE)
def test_a_file_that_cannot_be_right_is_refused_before_spark_reads_it(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    case = ENDS_AT_ONCE[name]
    case.write(tmp_path)
    with pytest.raises(HalflifeError) as error:
        judged(spark, "log", case, tmp_path)
    assert_names_the_file(error.value, case, tmp_path)


@pytest.mark.parametrize("name", ENDS_LATER)
def test_a_damage_that_only_reading_finds_is_explained(spark: SparkSession, tmp_path: Path, name: str) -> None:
    case = ENDS_LATER[name]
    case.write(tmp_path)
    with pytest.raises(Exception) as error:  # noqa: PT011 - whatever Spark raises
        judged(spark, "log", case, tmp_path).collect()
    assert_names_the_file(known(error.value), case, tmp_path)


def known(error: Exception) -> HalflifeError | None:
    """What the job says of a failure."""
    return error if isinstance(error, HalflifeError) else explain(error)


def assert_names_the_file(error: HalflifeError | None, case: Refused, folder: Path) -> None:
    assert error is not None
    assert error.exit_code == 3
    assert f"{folder}/{case.file}" in str(error)
    assert re.search(case.message, str(error))
    assert "\n" not in str(error)


@pytest.mark.parametrize("write", [csv("u,i,2026-01-01,view,1,n"), parquet()], ids=["csv", "parquet"])
@pytest.mark.parametrize("when", ["before it is read", "while it is read"])
def test_a_file_that_goes_away_is_named(
    spark: SparkSession, tmp_path: Path, write: Callable[[Path], None], when: str
) -> None:
    write(tmp_path)
    (file,) = tmp_path.iterdir()
    case = Case(write, format=file.suffix.removeprefix("."))
    found = sources.find("log", case.source(tmp_path), None, NIGHT)
    with pytest.raises(Exception) as error:  # noqa: PT011, PT012 - Spark's own, or ours; when which line runs
        if when == "before it is read":
            file.unlink()
        frame = sources.read(spark, found)
        file.unlink(missing_ok=True)
        frame.collect()
    assert str(file) in str(known(error.value))


def test_a_failure_that_is_not_about_a_file_is_not_explained_away() -> None:
    assert explain(ValueError("file:/a.csv is not involved")) is None
