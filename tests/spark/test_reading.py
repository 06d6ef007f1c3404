"""A table is read by its name and night in anybody's Spark job, and stays what it was while it is read."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from halflife import tables
from halflife.errors import ConfigError, InputMissingError
from halflife.schemas import QUARANTINE
from halflife.warehouse import TABLES, Warehouse

NIGHT = date(2026, 1, 2)


def publish(root: Path, reason: str) -> None:
    store = Warehouse(root)
    run = store.begin("sessionize", NIGHT, {"reason": reason})
    assert run is not None
    for table in TABLES["sessionize"]:
        rows = [("log", "a.csv", reason, "text")] if table == "quarantine" else []
        run.write_rows(table, rows)
    store.publish(run, {}, {})


def test_a_table_is_read_by_name_and_night(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, "too_late")
    given = tables.read(spark, "quarantine", NIGHT, tmp_path)
    monkeypatch.setenv(tables.ROOT_VARIABLE, str(tmp_path))
    known = tables.read(spark, "quarantine", NIGHT)
    publish(tmp_path, "id_too_long")
    assert [row["reason"] for row in given.collect()] == ["too_late"]
    assert given.columns == known.columns == QUARANTINE.names
    assert [row["reason"] for row in tables.read(spark, "quarantine", NIGHT).collect()] == ["id_too_long"]


def test_what_cannot_be_read_is_named(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tables.ROOT_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="no warehouse"):
        tables.read(spark, "scores", NIGHT)
    with pytest.raises(ConfigError, match="'score' is no table; name one of"):
        tables.read(spark, "score", NIGHT, tmp_path)
    with pytest.raises(InputMissingError, match="no night 2026-01-02"):
        tables.read(spark, "scores", NIGHT, tmp_path)
