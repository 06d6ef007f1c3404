"""What the score table is compared with, on the generated night of bench_states; each prints its seconds.

    keras_udf   the obvious way: Keras `predict` for the pairs of a block of users in a pandas UDF, long rows by Spark
    als         Spark ALS, rank 64: recommendForAllUsers, top 10, written by Spark (no training)
    limit       on one core, halved: one matrix product of a block, and pyarrow's writing of the same rows, nothing else

The first two are run by spark-submit. They write user_id, item_id and score; no memory, no parts, no audit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from bench_processes import fresh_folder
from bench_states import AS_OF, HALF_LIVES_DAYS, ITEMS, SIZE, States

USERS_PER_BLOCK = 32  # of Keras: 320,000 pairs
CORES = 2


def keras_udf(states: States, output: Path) -> float:
    from pyspark.sql import SparkSession

    from halflife.model import artifact
    from halflife.warehouse import Warehouse

    spark = SparkSession.builder.appName("bench keras_udf").getOrCreate()
    store = Warehouse(states.warehouse)
    side = artifact.load(store.path("models", AS_OF)).item_side(ITEMS)
    spark.range(1).count()
    begin = time.perf_counter()
    item_ids = store.read(spark, "items", AS_OF).orderBy("item_index").toPandas()["item_id"].to_numpy()
    users = store.read(spark, "users", AS_OF)
    read = spark.read.parquet(str(states.tables()["user_states"])).join(users, on="user_index")

    def score(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import keras
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        user, item = keras.Input((SIZE,)), keras.Input((SIZE + 1,))
        product = keras.layers.Dot(1)([user, item[:, :SIZE]]) + item[:, SIZE:]
        model = keras.Model([user, item], 1 - keras.ops.exp(-7 * keras.ops.exp(product)))
        items = np.concatenate([side.vectors, side.bias[:, None]], axis=1)
        for batch in batches:
            for first in range(0, len(batch), USERS_PER_BLOCK):
                block = batch.iloc[first : first + USERS_PER_BLOCK]
                vectors = (
                    np.stack(block["readouts"].to_list()).reshape(len(block), len(HALF_LIVES_DAYS), SIZE).sum(axis=1)
                )
                pairs = [np.repeat(vectors, ITEMS, axis=0), np.tile(items, (len(block), 1))]
                scores = model.predict(pairs, batch_size=ITEMS, verbose=0)[:, 0]
                ids = {"user_id": np.repeat(block["user_id"], ITEMS), "item_id": np.tile(item_ids, len(block))}
                yield pd.DataFrame({**ids, "score": scores})

    rows = read.repartition(CORES).mapInPandas(score, "user_id string, item_id string, score float")
    rows.write.parquet(str(output))
    return time.perf_counter() - begin


def als(states: States, output: Path) -> float:
    from pyspark.ml.recommendation import ALSModel
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F

    from halflife.model import artifact
    from halflife.warehouse import Warehouse

    spark = SparkSession.builder.appName("bench als").getOrCreate()
    side = artifact.load(Warehouse(states.warehouse).path("models", AS_OF)).item_side(ITEMS)
    rows = [(item, vector) for item, vector in enumerate(side.vectors.tolist())]
    items = spark.createDataFrame(rows, "id int, features array<float>").cache()
    read = spark.read.parquet(str(states.tables()["user_states"]))
    factors = read.select(F.col("user_index").alias("id"), F.slice("readouts", 1, SIZE).alias("features")).cache()
    items.count()
    factors.count()
    jvm = spark._jvm
    assert jvm is not None
    made = jvm.org.apache.spark.ml.recommendation.ALSModel("bench", SIZE, factors._jdf, items._jdf)
    begin = time.perf_counter()
    ALSModel(made.setUserCol("user").setItemCol("item")).recommendForAllUsers(10).write.parquet(str(output))
    return time.perf_counter() - begin


def limit(states: States, output: Path) -> float:
    from threadpoolctl import threadpool_limits

    from halflife.config import ScoreConfig
    from halflife.scoring import tables

    block = min(states.users, ScoreConfig().rows_per_group // ITEMS)
    random = np.random.default_rng(1)
    users = random.normal(0, 0.3, (block, SIZE)).astype(np.float32)
    items = random.normal(0, 0.25, (ITEMS, SIZE)).astype(np.float32)
    rows = _rows_of(states, output / "one")
    with threadpool_limits(1):
        product = np.empty((block, ITEMS), dtype=np.float32)
        per_block = _repeated(lambda: np.matmul(users, items.T, out=product))
    folders = {"scores": fresh_folder(output / "written")}
    with tables.range_files(folders, ScoreConfig()) as files:
        none = np.empty(0, dtype=np.float32)
        per_write = _repeated(lambda: files.write("scores", rows, none))
    seconds = (per_block / product.size + per_write / rows.num_rows) / CORES
    return seconds * states.users * ITEMS


def _rows_of(states: States, folder: Path):  # type: ignore[no-untyped-def]
    """The rows of one row group as the job writes them, in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from halflife.warehouse import Warehouse

    file = next(Warehouse(states.warehouse).path("scores", AS_OF).glob("*.parquet"))
    names = ["user_id", "item_id"]
    table = pq.ParquetFile(file, read_dictionary=names).read_row_group(0).combine_chunks().unify_dictionaries()
    fields = [pa.field(name, table[name].type, nullable=False) for name in table.column_names]
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields))


def _repeated(step: Callable[[], object]) -> float:
    """Seconds of a step: the mean of those that two seconds hold, after one that warms up."""
    step()
    begin, times = time.perf_counter(), 0
    while (seconds := time.perf_counter() - begin) < 2:
        step()
        times += 1
    return seconds / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["keras_udf", "als", "limit"])
    parser.add_argument("users", type=int)
    parser.add_argument("folder", type=Path, help="of the states")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    peer = {"keras_udf": keras_udf, "als": als, "limit": limit}[options.peer]
    print(json.dumps({"seconds": peer(States(options.users, options.folder), options.output)}), file=sys.stdout)


if __name__ == "__main__":
    main()
