"""Encoding users' sequences in one of the ways that scripts/bench encode compares; run by spark-submit.

Prints the seconds from the answer to a trivial query on: those of everyone, then those of the active users alone, in
the same JVM.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from halflife import schemas
from halflife.command import Job
from halflife.config import Config, SessionizeConfig
from halflife.model import artifact
from halflife.model.features import EncoderInput, encoder_input
from halflife.pipelines import states
from halflife.scoring import encode
from halflife.warehouse import TABLES, Warehouse

KERAS_ROWS = 256


def keras_function(directory: Path) -> Callable[[EncoderInput], np.ndarray[Any, Any]]:
    """The model's Keras encoder, compiled for blocks of KERAS_ROWS, on the task's one core."""
    import tensorflow as tf

    from halflife.model.encoder import Encoder, encoder_name

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = artifact.load(directory)
    with np.load(directory / artifact.WEIGHTS, allow_pickle=False) as stored:
        weights = dict(stored)
    encoder = Encoder(model.manifest.architecture)
    for weight in encoder.weights:
        weight.assign(weights[encoder_name(weight)])
    item_inputs, half_lives = tf.constant(weights["items/inputs"]), tf.constant(weights["half_lives_days"])

    @tf.function(reduce_retracing=True)
    def compiled(rows: EncoderInput) -> Any:
        inputs = tf.gather(item_inputs, rows.item)
        return encoder(inputs, rows.features, rows.type, rows.strength, rows.age_days, rows.length, half_lives)

    def readouts(rows: EncoderInput) -> np.ndarray[Any, Any]:
        found = []
        for begin in range(0, len(rows.length), KERAS_ROWS):
            block = [column[begin : begin + KERAS_ROWS] for column in rows]
            missing = KERAS_ROWS - len(block[0])
            filled = [np.pad(column, [(0, missing), *[(0, 0)] * (column.ndim - 1)]) for column in block]
            found.append(compiled(EncoderInput(*map(tf.constant, filled))).numpy()[: len(block[0])])
        return np.concatenate(found).reshape(len(rows.length), -1)

    return readouts


def keras_udf(sequences: DataFrame, model: Path) -> DataFrame:
    """The obvious way: TensorFlow in the workers of a pandas UDF."""

    def run(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        function = keras_function(model)
        for batch in batches:
            columns = {name: np.stack(batch[name].to_list()) for name in encode.ARRAY_COLUMNS}
            readouts = function(encoder_input({**columns, "length": batch["length"].to_numpy()}))
            yield pd.DataFrame(
                {"user_index": batch["user_index"], "anchor_time": batch["last_event_time"], "readouts": list(readouts)}
            )

    return sequences.mapInPandas(run, schemas.USER_STATES)


def batch_udf(sequences: DataFrame, model: Path) -> DataFrame:
    """Spark's own `predict_batch_udf`, around the same Keras function."""
    names = [*encode.ARRAY_COLUMNS, "length"]
    events = SessionizeConfig().sequence_length

    def make() -> Callable[..., np.ndarray[Any, Any]]:
        function = keras_function(model)

        def predict(*columns: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return function(encoder_input(dict(zip(names, columns, strict=True))))

        # Spark counts the parameters to tell tensors of many columns from one of them all.
        predict.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_ONLY) for name in names])
        return predict

    predict = predict_batch_udf(
        make,
        return_type=T.ArrayType(T.FloatType()),
        batch_size=2_048,
        input_tensor_shapes={place: [events] for place in range(len(encode.ARRAY_COLUMNS))},
    )
    return sequences.select("user_index", "last_event_time", predict(*names).alias("readouts"))


def ours(folder: Path, active: DataFrame) -> list[float]:
    """Seconds of the score job's own encoding: of everyone on the first night, of the active users on the second."""
    store, seconds, kept = Warehouse(folder / "warehouse"), [], None
    source = {"path": "none", "event_type": "view", "columns": {"user": "u", "item": "i", "time": "t"}}
    settings = {"warehouse": str(store.root), "sources": {"log": source}, "event_types": {"view": {"weight": 1.0}}}
    config, model = Config.model_validate(settings), artifact.load(folder / "model")
    changed = states.Changes(added=active, removed=active.limit(0))
    for night in store.nights("sessionize"):
        job, opened = Job("score", night, config, sys.stderr, until=night), store.begin("score", night, {})
        assert opened is not None  # the warehouse has no such night
        with store.staged(opened) as run:
            begin = time.perf_counter()
            states.stage_user_states(job, run, kept, changed, model, folder / "model")
            seconds.append(time.perf_counter() - begin)
            for table in set(TABLES["score"]) - {"user_states"}:
                run.write_rows(table, [])
            store.publish(run, {}, {})
        kept = night
    return seconds


def theirs(way: str, folder: Path, out: Path, active: DataFrame) -> list[float]:
    """The same in another way, from files of sequences to files of read-outs."""
    store, seconds = Warehouse(folder / "warehouse"), []
    sequences = store.read(active.sparkSession, "sequences", store.nights("sessionize")[0])
    due = sequences.join(active, on="user_index", how="left_semi")
    for name, users in (("everyone", sequences), ("active", due)):
        begin = time.perf_counter()
        read_out = WAYS[way](users.repartition(2, "user_index"), folder / "model")
        read_out.write.parquet(str(out / name))
        seconds.append(time.perf_counter() - begin)
    return seconds


WAYS: dict[str, Callable[[DataFrame, Path], DataFrame]] = {
    "keras_udf": keras_udf,
    "predict_batch_udf": batch_udf,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=["ours", *WAYS])
    parser.add_argument("folder", type=Path, help="holds warehouse/, active/ and model/")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    spark = SparkSession.builder.getOrCreate()
    spark.range(1).count()
    active = spark.read.parquet(str(options.folder / "active"))
    if options.way == "ours":
        seconds = ours(options.folder, active)
    else:
        seconds = theirs(options.way, options.folder, options.out, active)
    print(json.dumps({"seconds": seconds[0], "later": seconds[1:]}))


if __name__ == "__main__":
    main()
