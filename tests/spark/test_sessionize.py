"""The sessionize job on logs that are late, repeated and from many sources, in one Spark session."""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from pyspark.sql import SparkSession

import late_log
from halflife import config as configuration
from halflife.command import Job
from halflife.pipelines import sessionize
from halflife.warehouse import Warehouse

LAST = late_log.FIRST + timedelta(days=late_log.DAYS)
STATE = ("events", "sessions", "sequences", "users", "items")


class Nights:
    """A warehouse over a raw log, and the nights that were run in it."""

    def __init__(self, raw: Path, folder: Path, *overrides: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(late_log.CONFIG.format(raw=raw))
        self.config = configuration.load(folder / "config.yaml", [f"warehouse={folder}/warehouse", *overrides])
        self.store = Warehouse(self.config.warehouse)

    def run(self, *nights: date) -> Nights:
        for night in nights:
            sessionize.run(Job("sessionize", night, self.config, sys.stdout, until=nights[-1]))
        return self

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Rows of a query in which {table/...} stands for its files."""
        filled = query.replace("{", f"read_parquet('{self.store.root}/").replace(
            "}", "/*.parquet', hive_partitioning=false)"
        )
        return duckdb.sql(filled).fetchall()

    def state(self, table: str, night: date = LAST) -> list[tuple[object, ...]]:
        return self.rows(f"SELECT * FROM {{{table}/as_of={night}}} ORDER BY ALL")


def days(first: int, last: int) -> list[date]:
    return [late_log.FIRST + timedelta(days=n) for n in range(first, last + 1)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    late_log.write(folder, seed=5)
    return folder


@pytest.fixture(scope="module")
def one_by_one(spark: SparkSession, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    return Nights(raw, tmp_path_factory.mktemp("one_by_one")).run(*days(1, late_log.DAYS))


@pytest.fixture(scope="module")
def one_go(spark: SparkSession, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    return Nights(raw, tmp_path_factory.mktemp("one_go")).run(LAST)


@pytest.mark.parametrize("table", STATE)
def test_nights_one_by_one_give_the_tables_of_one_rebuild(one_by_one: Nights, one_go: Nights, table: str) -> None:
    rows = one_by_one.state(table)
    assert len(rows) >= late_log.ITEMS
    assert rows == one_go.state(table)


def test_every_row_read_is_accounted_for(one_by_one: Nights) -> None:
    query = "SELECT sum(rows_read), sum(accepted), sum(quarantined), sum(duplicates) FROM {intake/*}"
    ((read, accepted, quarantined, duplicates),) = one_by_one.rows(query)
    assert min(accepted, quarantined, duplicates) > 0
    assert read == accepted + quarantined + duplicates
    assert one_by_one.rows(f"SELECT count(*) FROM {{events/as_of={LAST}}}") == [(accepted,)]
    reasons = {row[0] for row in one_by_one.rows("SELECT DISTINCT reason FROM {quarantine/*}")}
    assert reasons == {"too_late", "unparsable_time", "time_after_as_of"}
