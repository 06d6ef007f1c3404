"""Train the model on everything before the night, and publish it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from halflife.command import Job
from halflife.errors import InputMissingError
from halflife.model import artifact
from halflife.nights import instant
from halflife.training import launch
from halflife.transformations import sequences
from halflife.warehouse import Run, digests

READS = ("model", "train", "sessionize", "event_types")
# Row groups are what the ranks share out: small ones, so that each rank gets its part of a small log too.
ROW_GROUP_BYTES = 1 << 20


def run(job: Job) -> None:
    """Train on the events before `job.as_of` and publish the model of that night."""
    store, config = job.warehouse, job.config
    store.path("events", job.as_of)  # the night must have been sessionized
    inputs = {
        "config": config.model_dump(mode="json", include=set(READS)),
        "sessionize": digests(store.manifest("sessionize", job.as_of)),
    }
    job.publish(inputs, lambda night: _stage(job, night))


def _stage(job: Job, night: Run) -> dict[str, Any]:
    """Write the histories that the ranks read, train, and put the model into its place."""
    store, spark, config = job.warehouse, job.spark, job.config
    rows, work = night.scratch("histories"), night.scratch("training")
    with job.stage("histories"):
        events = store.read(spark, "events", job.as_of)
        _long_enough(job, events)
        histories = sequences.last_events(events, config.train.history_length)
        # In one order, so that a seed gives one model.
        ordered = histories.repartition("user_index").sortWithinPartitions("user_index")
        ordered.write.option("parquet.block.size", ROW_GROUP_BYTES).parquet(str(rows))
        items = store.read(spark, "items", job.as_of).orderBy("item_index").toPandas()
    with job.stage("train"):
        trained = launch.train_model(
            spark,
            rows,
            items,
            list(config.event_types),
            instant(job.as_of).timestamp(),
            config,
            work,
            lambda stage, done, total, message: job.progress.say(f"{stage} {done}/{total} {message}"),
        )
        trained.directory.rename(night.path("models"))
    model = artifact.load(night.path("models"))
    return {"version": model.version, "kind": model.kind, **trained.metrics}


def _long_enough(job: Job, events: DataFrame) -> None:
    """Raises InputMissingError where the log does not reach back behind the validation days and a horizon."""
    config = job.config
    start = instant(job.as_of) - timedelta(days=config.train.validation_days + config.model.horizon_days)
    if config.model.kind != "exponential" and events.where(F.col("event_time") < F.lit(start)).isEmpty():
        raise InputMissingError(
            f"events: none before {start:%Y-%m-%d}, so nothing is left to learn from when train.validation_days="
            f"{config.train.validation_days} are held out; wait for a longer log, or hold out fewer days"
        )
