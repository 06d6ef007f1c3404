"""One Spark session for the whole suite, with the settings of conf/spark-defaults.conf."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

ROOT = Path(__file__).parents[2]

# What the tests need otherwise than a night: small tables, so few partitions; and a driver that leaves room for ranks.
OVERRIDES = {
    "spark.driver.memory": "2g",
    "spark.sql.shuffle.partitions": "2",
    "spark.log.level": "ERROR",
}


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # Spark's workers, also where pytest was called by its path
    lines = (ROOT / "conf" / "spark-defaults.conf").read_text(encoding="utf-8").splitlines()
    settings = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    log = tmp_path_factory.mktemp("log") / "spark.log"
    # A suite of small jobs: the time that the JVM's second compiler costs never comes back.
    log4j2 = (ROOT / "conf" / "log4j2.properties").as_uri()
    options = f"-XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile={log4j2} -Dhalflife.log={log}"
    builder = SparkSession.builder.master("local[2]").appName("halflife tests")
    for key, value in {**settings, **OVERRIDES, "spark.driver.extraJavaOptions": options}.items():
        builder = builder.config(key, value.strip())
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture(autouse=True)
def _clean_catalog(request: pytest.FixtureRequest) -> Iterator[None]:
    """The JVM is kept between tests; what a test cached in it is not."""
    yield
    if "spark" in request.fixturenames:
        request.getfixturevalue("spark").catalog.clearCache()
