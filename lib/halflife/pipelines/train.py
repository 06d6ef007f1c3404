"""Train the model on everything before the night, and publish it where it beats what is there."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from halflife.command import Job
from halflife.digests import digest_of
from halflife.errors import InputMissingError, ModelError
from halflife.model import artifact
from halflife.model.artifact import Model
from halflife.model.manifest import catalogue_digest
from halflife.nights import instant
from halflife.training import launch
from halflife.training.gate import RefusedError, Verdict, judge
from halflife.training.launch import Keep, TrainedModel
from halflife.transformations import sequences
from halflife.warehouse import Run, code_version, digests

READS = ("model", "train", "sessionize", "event_types")
# Row groups are what the ranks share out: small ones, so that each rank gets its part of a small log too.
ROW_GROUP_BYTES = 1 << 20
FILES_PER_SHARD = 4
REFUSED = "refused.json"

log = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Train on the events before `job.as_of` and publish the model of that night, unless the gate refuses it."""
    store, config = job.warehouse, job.config
    store.path("events", job.as_of)  # the night must have been sessionized
    before = store.last_night("train", job.as_of)
    inputs = {
        "config": config.model_dump(mode="json", include=set(READS)),
        "sessionize": digests(store.manifest("sessionize", job.as_of)),
        "champion": before and digests(store.manifest("train", before)),
    }
    keep = _keep(job, digest_of({"inputs": inputs, "code": code_version()}))
    try:
        job.publish(inputs, lambda night: _stage(job, night, keep, before))
    except RefusedError as refusal:
        log.warning("%s", refusal)
        print(f"train {job.as_of}: {refusal}", file=job.console)
    else:
        shutil.rmtree(keep.checkpoints, ignore_errors=True)


def _keep(job: Job, digest: str) -> Keep:
    """The folders of this very training: the same inputs and code find them again."""
    root, name = job.warehouse.root / "_training", f"{job.as_of}-{digest[:16]}"
    events = job.config.train.tensorboard
    return Keep(root / name, None if events is None else root / events / name)


@dataclass(frozen=True)
class _Champion:
    """What is live before this night: its words, and its folder where it has not seen the validation days."""

    words: str
    comparable: Path | None


def _stage(job: Job, night: Run, keep: Keep, before: date | None) -> dict[str, Any]:
    """Write the histories that the ranks read, train, and put what goes live into its place."""
    store, config = job.warehouse, job.config
    _refused_before(keep)
    rows, work = night.scratch("histories"), night.scratch("training")
    with job.stage("histories"):
        events = store.read(job.spark, "events", job.as_of)
        _long_enough(job, events)
        histories = sequences.last_events(events, config.train.history_length)
        # In one order, so that a seed gives one model; in files for every shard, however small the log is.
        parts = FILES_PER_SHARD * config.train.shards
        ordered = histories.repartition(parts, "user_index").sortWithinPartitions("user_index")
        ordered.write.option("parquet.block.size", ROW_GROUP_BYTES).parquet(str(rows))
        items = store.read(job.spark, "items", job.as_of).orderBy("item_index").toPandas()
    champion = _champion(job, before, items)
    with job.stage("train"):
        trained = launch.train_model(
            job.spark,
            rows,
            items,
            list(config.event_types),
            instant(job.as_of).timestamp(),
            config,
            work,
            lambda stage, done, total, message: job.progress.say(f"{stage} {done}/{total} {message}"),
            keep,
            None if champion is None else champion.comparable,
        )
    return _put_live(job, night, keep, trained, champion, items)


def _put_live(
    job: Job, night: Run, keep: Keep, trained: TrainedModel, champion: _Champion | None, items: pd.DataFrame
) -> dict[str, Any]:
    """Stage the model, or the tuned law in its place. Raises RefusedError where the champion stays."""
    figures: dict[str, Any] = dict(trained.metrics)
    if job.config.model.kind == "exponential":
        trained.directory.rename(night.path("models"))
    else:
        verdict = _verdict(job, trained, champion)
        log.info("gate: %s, goes live: %s, figures: %s", verdict.reason, verdict.live, json.dumps(figures))
        if verdict.live == "champion":
            _refuse(keep, verdict.reason, figures)
        if verdict.live == "law":
            half_life, as_of = trained.metrics["law_half_life_days"], instant(job.as_of).timestamp()
            types = list(job.config.event_types)
            launch.exponential(night.path("models"), half_life, items, types, as_of, job.config)
        else:
            trained.directory.rename(night.path("models"))
        figures |= {"gate": verdict.reason, "live": verdict.live}
    model = artifact.load(night.path("models"))
    return {"version": model.version, "kind": model.kind, **figures}


def _verdict(job: Job, trained: TrainedModel, champion: _Champion | None) -> Verdict:
    """What the gate says, shown where it is more than that the model wins."""
    verdict = judge(trained.metrics, job.config.train.gate, None if champion is None else champion.words)
    if champion is not None and champion.comparable is None:
        aside = f"{champion.words} was trained on the validation days, or on other items: compared with the law only"
        verdict = Verdict(verdict.live, f"{verdict.reason} ({aside})")
    if verdict.live == "law":
        half_life = trained.metrics["law_half_life_days"]
        words = f"{verdict.reason}; there is no other model: publishes the law with {half_life:g} days"
        verdict = Verdict("law", words)
    if verdict.live == "law" or "not beat" in verdict.reason:
        job.progress.say(verdict.reason)
    if verdict.live == "law":
        print(f"train {job.as_of}: {verdict.reason}", file=job.console)
    return verdict


def _refuse(keep: Keep, reason: str, figures: dict[str, Any]) -> None:
    """Note the refusal, so that the same training is not done again, and end without a new model."""
    shutil.rmtree(keep.checkpoints, ignore_errors=True)
    keep.checkpoints.mkdir(parents=True)
    (keep.checkpoints / REFUSED).write_text(json.dumps({"reason": reason, "figures": figures}, indent=1))
    raise RefusedError(f"warning: {reason}; nothing was published, the model that is there stays")


def _refused_before(keep: Keep) -> None:
    file = keep.checkpoints / REFUSED
    if file.exists():
        reason = json.loads(file.read_text(encoding="utf-8"))["reason"]
        raise RefusedError(f"nothing to do: refused already from the same inputs, configuration and code: {reason}")


def _champion(job: Job, before: date | None, items: pd.DataFrame) -> _Champion | None:
    """The model that scores now, if it can still be read: a damaged one must not keep a new one away."""
    if before is None or job.config.model.kind == "exponential":
        return None
    folder = job.warehouse.path("models", before)
    try:
        model = artifact.load(folder)
    except ModelError as error:
        log.warning("the champion of %s does not count: %s", before, error)
        return None
    start = instant(job.as_of) - timedelta(days=job.config.train.validation_days)
    unseen = datetime.fromisoformat(model.manifest.as_of) <= start and _same_numbers(job, model, items)
    return _Champion(f"the model of {before}", folder if unseen else None)


def _same_numbers(job: Job, model: Model, items: pd.DataFrame) -> bool:
    """Whether a model numbers items and event types as tonight's tables do."""
    types = tuple(job.config.event_types)
    known = catalogue_digest(items["item_id"][: model.items]) == model.manifest.catalogue_digest
    return known and types[: len(model.event_types)] == model.event_types


def _long_enough(job: Job, events: DataFrame) -> None:
    """Raises InputMissingError where the log does not reach back behind the validation days and a horizon."""
    config = job.config
    start = instant(job.as_of) - timedelta(days=config.train.validation_days + config.model.horizon_days)
    if config.model.kind != "exponential" and events.where(F.col("event_time") < F.lit(start)).isEmpty():
        raise InputMissingError(
            f"events: none before {start:%Y-%m-%d}, so nothing is left to learn from when train.validation_days="
            f"{config.train.validation_days} are held out; wait for a longer log, or hold out fewer days"
        )
