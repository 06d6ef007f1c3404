"""The tables that the tasks of Spark write: the same whatever the partitions, and read by everyone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import audit, schemas
from halflife.config import ScoreConfig
from halflife.model.artifact import ItemSide
from halflife.scoring import order, tables
from halflife.scoring.rollups import Categories

USERS, ITEMS, SIZE = 90, 403, 8
HALF_LIVES = np.array([1.0, 30.0])
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SILENT = 7  # a user without events


@pytest.fixture(scope="module")
def night() -> tables.Night:
    random = np.random.default_rng(1)
    return tables.Night(
        at_seconds=NOW.timestamp(),
        half_lives_days=HALF_LIVES,
        horizon_days=7.0,
        event_types=("view", "purchase"),
        ids=pa.array([f"item-{item:03}" for item in range(ITEMS)]),
        categories=Categories(["all"], np.zeros(ITEMS, dtype=np.int32)),
        position=np.arange(ITEMS, dtype=np.int32),
        side=ItemSide(
            random.normal(-6, 1, ITEMS).astype(np.float32), random.normal(0, 0.3, (ITEMS, SIZE)).astype(np.float32)
        ),
    )


def written(
    spark: SparkSession, night: tables.Night, folder: Path, ranges: int = 2, shuffled: bool = False, **options: object
) -> Path:
    """The folder of the scores, audited."""
    random = np.random.default_rng(2)
    known = [user for user in range(USERS) if user != SILENT]
    last = {user: NOW - timedelta(days=float(random.exponential(20))) for user in known}
    users = [(user, f"user-{user:03}") for user in range(USERS)]
    states = [(user, last[user], random.normal(0, 0.3, 2 * SIZE).tolist()) for user in known]
    memory = []
    for user in known:
        for item in random.choice(ITEMS, 5, replace=False).tolist():
            jump = random.random(2).tolist()
            memory.append((user, item, last[user], jump, [0.0, 0.0], 1, False, last[user], 1, jump, None))
    if shuffled:
        for rows in (users, states, memory):
            permuted = random.permutation(len(rows))
            rows[:] = [rows[place] for place in permuted]
    stored = {"users": (users, schemas.USERS), "user_states": (states, schemas.USER_STATES)}
    for name, (values, kind) in {**stored, "memory": (memory, schemas.MEMORY)}.items():
        (folder / name).mkdir(parents=True)
        schema = to_arrow_schema(kind)
        columns = zip(*values, strict=True)
        table = pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
        pq.write_table(table, folder / name / "0.parquet", row_group_size=100)
    inputs = {name: folder / name for name in order.COLUMNS}
    law = (night.at_seconds, night.half_lives_days, night.horizon_days)
    users_in_order = order.by_id(spark, folder / "users", inputs, folder / "order", *law)
    folders = {name: folder / name for name in ("scores", "recommendations", "interest_by_category")}
    config = ScoreConfig.model_validate({"rows_per_group": 4_000, **options})
    files = tables.write(spark, users_in_order, night, folders, config, ranges)
    assert len(list(folders["scores"].iterdir())) == ranges
    assert audit.scores(files, USERS if config.layout == "arrays" else USERS * ITEMS) == 0
    return folders["scores"]


def rows(folder: Path) -> pd.DataFrame:
    return duckdb.sql(f"FROM '{folder}/*.parquet' ORDER BY user_id, item_id").df()


@pytest.fixture(scope="module")
def scores(spark: SparkSession, night: tables.Night, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(spark, night, tmp_path_factory.mktemp("scores"))


@pytest.mark.parametrize(
    ("ranges", "rows_per_group", "shuffled"), [(19, 4_000, True), (1, 403, False), (2, 1_000_000, True)]
)
def test_ranges_blocks_and_order_never_change_a_score(
    spark: SparkSession,
    night: tables.Night,
    scores: Path,
    tmp_path: Path,
    ranges: int,
    rows_per_group: int,
    shuffled: bool,
) -> None:
    other = written(spark, night, tmp_path, ranges, shuffled, rows_per_group=rows_per_group)
    pd.testing.assert_frame_equal(rows(other), rows(scores), check_exact=True)


def test_spark_duckdb_and_pandas_read_the_same(spark: SparkSession, scores: Path) -> None:
    found = rows(scores)
    assert len(found) == USERS * ITEMS
    by_spark = spark.read.schema(schemas.SCORES).parquet(str(scores)).toPandas()
    by_pandas = pd.read_parquet(scores)
    for other in (by_spark, by_pandas):
        ordered = other.sort_values(["user_id", "item_id"], ignore_index=True)
        pd.testing.assert_frame_equal(ordered, found, check_exact=True)


def test_rows_stand_by_user_and_item(scores: Path) -> None:
    for file in scores.iterdir():
        keys = pq.read_table(file, columns=["user_id", "item_id"]).to_pandas()
        pd.testing.assert_frame_equal(keys.sort_values(["user_id", "item_id"], ignore_index=True), keys)


def test_what_is_published_is_within_its_bounds_of_the_exact_table(
    spark: SparkSession, night: tables.Night, scores: Path, tmp_path: Path
) -> None:
    exact, found = rows(written(spark, night, tmp_path, encoding="float32")), rows(scores)
    np.testing.assert_allclose(found["score"], exact["score"], rtol=2**-10, atol=2**-21)
    assert (np.abs(found["affinity"] - exact["affinity"]) <= 2**-22).all()
    np.testing.assert_array_equal(found["memory"], exact["memory"])


def test_a_user_without_events_gets_the_popularity(night: tables.Night, scores: Path) -> None:
    found = rows(scores)
    silent = found[found["user_id"] == f"user-{SILENT:03}"]
    np.testing.assert_allclose(silent["affinity"], 7 * np.exp(night.side.bias), rtol=2**-11)
    assert (silent["memory"] == 0).all()


def test_eight_bits_and_arrays_are_read_by_spark_and_duckdb(
    spark: SparkSession, night: tables.Night, scores: Path, tmp_path: Path
) -> None:
    coded = written(spark, night, tmp_path / "codes", encoding="uint8")
    formula = "CASE WHEN score = 0 THEN 0 ELSE 1 - exp(-pow(2, score / 10.0 - 21.3)) END"
    exact = rows(scores)["score"].to_numpy()
    by_duckdb = duckdb.sql(f"SELECT {formula} AS s FROM '{coded}/*.parquet' ORDER BY user_id, item_id").df()["s"]
    by_spark = (
        spark.read.parquet(str(coded)).orderBy("user_id", "item_id").selectExpr(f"{formula} AS s").toPandas()["s"]
    )
    np.testing.assert_allclose(by_duckdb, exact, rtol=0.036, atol=1e-6)
    np.testing.assert_allclose(by_spark, by_duckdb)
    arrays = written(spark, night, tmp_path / "arrays", layout="arrays")
    by_user = spark.read.schema(schemas.SCORE_ARRAYS).parquet(str(arrays)).orderBy("user_id").toPandas()
    np.testing.assert_array_equal(np.concatenate(by_user["score"].to_list()).astype(np.float32), exact)
