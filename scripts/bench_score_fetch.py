"""Fetch one user of the published scores with DuckDB and with Spark: seconds and bytes read.

Run by spark-submit; the bytes are what the process asked the system for (rchar in /proc/PID/io).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
from bench_states import AS_OF, ITEMS, States
from pyspark.sql import SparkSession

from halflife.warehouse import Warehouse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("users", type=int)
    parser.add_argument("folder", type=Path, help="of the states")
    options = parser.parse_args()
    scores = Warehouse(States(options.users, options.folder).warehouse).path("scores", AS_OF)
    user = f"user-{options.users // 3:07}"
    spark = SparkSession.builder.appName("bench fetch").getOrCreate()
    spark.range(1).count()
    of_user = f"user_id = '{user}'"

    def by_duckdb() -> int:
        return duckdb.sql(f"SELECT score FROM '{scores}/*.parquet' WHERE {of_user}").fetchnumpy()["score"].size

    def by_spark() -> int:
        return len(spark.read.parquet(str(scores)).where(of_user).select("score").toPandas())

    duckdb.sql("SELECT 1").fetchall()
    jvm = spark._jvm
    assert jvm is not None
    java = jvm.java.lang.ProcessHandle.current().pid()
    figures = {}
    for name, process, fetch in (("duckdb", os.getpid(), by_duckdb), ("spark", java, by_spark)):
        figures |= {f"{name} {what}": value for what, value in _measured(process, fetch).items()}
    print(json.dumps({"seconds": figures["duckdb seconds"], "stages": figures}))


def _measured(process: int, fetch: Callable[[], int]) -> dict[str, float]:
    before, begin = _bytes_read(process), time.perf_counter()
    assert fetch() == ITEMS
    seconds = time.perf_counter() - begin
    return {"seconds": round(seconds, 3), "bytes": _bytes_read(process) - before}


def _bytes_read(process: int) -> int:
    lines = Path(f"/proc/{process}/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


if __name__ == "__main__":
    main()
