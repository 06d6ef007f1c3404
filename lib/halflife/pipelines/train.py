"""Train the model on everything before the night, and publish it."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

from halflife.command import Job
from halflife.model import artifact
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
    opened = store.begin("train", job.as_of, inputs)
    if opened is None:
        job.nothing_to_do()
        return
    with store.staged(opened) as night:
        figures = _stage(job, night)
        manifest = store.publish(night, config.model_dump(mode="json"), figures)
    job.done(manifest)


def _stage(job: Job, night: Run) -> dict[str, Any]:
    """Write the histories that the ranks read, train, and put the model into its place."""
    store, spark, config = job.warehouse, job.spark, job.config
    rows, work = night.scratch("histories"), night.scratch("training")
    with job.stage("histories"):
        histories = sequences.last_events(store.read(spark, "events", job.as_of), config.train.history_length)
        histories.write.option("parquet.block.size", ROW_GROUP_BYTES).parquet(str(rows))
        items = store.read(spark, "items", job.as_of).orderBy("item_index").toPandas()
    with job.stage("train"):
        trained = launch.train_model(
            spark,
            rows,
            items,
            list(config.event_types),
            datetime.combine(job.as_of, time(), UTC).timestamp(),
            config,
            work,
            lambda stage, done, total, message: job.progress.say(f"{stage} {done}/{total} {message}"),
        )
        trained.directory.rename(night.path("models"))
    model = artifact.load(night.path("models"))
    return {"version": model.version, "kind": model.kind, **trained.metrics}
