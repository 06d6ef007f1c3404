"""Train the model on everything before the night, and publish it where it beats what is there."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from halflife.command import Job
from halflife.config import Config, TrainConfig
from halflife.decay import SECONDS_PER_DAY
from halflife.digests import digest_of
from halflife.errors import InputMissingError, ModelError
from halflife.model import artifact
from halflife.model.artifact import Model
from halflife.model.manifest import catalogue_digest
from halflife.nights import instant
from halflife.training import launch, leftovers, lifeline
from halflife.training.gate import RefusedError, Verdict, judge
from halflife.training.launch import TrainedModel
from halflife.training.leftovers import REFUSED, Keep
from halflife.training.task import Rival
from halflife.transformations import sequences
from halflife.warehouse import Run, code_version, digests

READS = ("model", "train", "sessionize", "event_types")
# Row groups are what the ranks share out: small ones, so that each rank gets its part of a small log too. Parquet looks
# after every 100 rows whether a group has so many bytes, and 100 users of any log do.
ROW_GROUP_BYTES = 1 << 10
FILES_PER_SHARD = 4

log = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Train on the events before `job.as_of` and publish the model of that night, unless the gate refuses it."""
    store, config = job.warehouse, job.config
    store.path("events", job.as_of)  # the night must have been sessionized
    before = store.last_night("train", job.as_of)
    inputs = {
        "config": configured(config),
        "sessionize": digests(store.manifest("sessionize", job.as_of)),
        "champion": before and digests(store.manifest("train", before)),
    }
    keep = _keep(job, digest_of({"inputs": inputs, "code": code_version(job.name)}))
    # Until the folder is removed: another run must take these checkpoints neither for left behind nor for its own.
    with lifeline.held(keep.checkpoints):
        try:
            job.publish(inputs, lambda night: _stage(job, night, keep, before))
        except RefusedError as refusal:
            log.warning("%s", refusal)
            job.unchanged(str(refusal))
        else:
            shutil.rmtree(keep.checkpoints, ignore_errors=True)
    leftovers.prune(keep, job.as_of, config.train.tensorboard_runs)


def configured(config: Config) -> dict[str, Any]:
    """What the configuration decides of the model: by it a night and its checkpoint are known."""
    return config.model_dump(mode="json", include=set(READS), exclude={"train": set(TrainConfig.OPERATIONAL)})


def _keep(job: Job, digest: str) -> Keep:
    """The folders of this very training: the same inputs and code find them again."""
    root, name = job.warehouse.root / "_training", f"{job.as_of}-{digest[:16]}"
    events = job.config.train.tensorboard
    return Keep(root / name, None if events is None else root / events / name)


@dataclass(frozen=True)
class _Champion:
    """What is live before this night: its words, and the model as a rival or why it cannot be one.

    One that cannot score tonight keeps nobody away: the law would take its place too.
    """

    words: str
    rival: Rival | None
    why_not: str = ""
    can_score: bool = True


def _stage(job: Job, night: Run, keep: Keep, before: date | None) -> dict[str, Any]:
    """Write the histories that the ranks read, train, and put what goes live into its place."""
    _refused_before(keep)
    rows, items = _histories(job, night)
    champion = _champion(job, before, items)
    with job.stage("train"):
        trained = launch.train_model(
            job.spark,
            rows,
            items,
            list(job.config.event_types),
            instant(job.as_of).timestamp(),
            job.config,
            night.scratch("training"),
            lambda stage, done, total, message: job.progress.say(f"{stage} {done}/{total} {message}"),
            keep,
            None if champion is None else champion.rival,
        )
    return _put_live(job, night, keep, trained, champion, items)


def _histories(job: Job, night: Run) -> tuple[Path, pd.DataFrame]:
    """The table that the ranks read, and the items."""
    store, config, rows = job.warehouse, job.config, night.scratch("histories")
    with job.stage("histories"):
        events = store.read(job.spark, "events", job.as_of)
        _long_enough(job, events)
        histories = sequences.last_events(events, config.train.history_length)
        # In one order, so that a seed gives one model; in files for every shard, however small the log is.
        parts = FILES_PER_SHARD * config.train.shards
        ordered = histories.repartition(parts, "user_index").sortWithinPartitions("user_index")
        ordered.write.option("parquet.block.size", ROW_GROUP_BYTES).parquet(str(rows))
        return rows, store.read(job.spark, "items", job.as_of).orderBy("item_index").toPandas()


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
    words = champion.words if champion is not None and champion.can_score else None
    verdict = judge(trained.metrics, job.config.train.gate, words)
    if champion is not None and champion.rival is None:
        aside = f"not compared with {champion.words}, which {champion.why_not}"
        verdict = replace(verdict, reason=f"{verdict.reason} ({aside})")
    if verdict.live == "law":
        half_life = trained.metrics["law_half_life_days"]
        law = f"{verdict.reason}; there is no other model that can score: publishes the law with {half_life:g} days"
        verdict = replace(verdict, reason=law)
    if verdict.beaten:
        job.progress.say(verdict.reason)
    if verdict.live == "law":
        print(f"train {job.as_of}: {verdict.reason}", file=job.console)
    return verdict


def _refuse(keep: Keep, reason: str, figures: dict[str, Any]) -> None:
    """Note the refusal, so that the same training is not done again, and end without a new model."""
    keep.checkpoints.mkdir(parents=True, exist_ok=True)
    (keep.checkpoints / REFUSED).write_text(json.dumps({"reason": reason, "figures": figures}, indent=1))
    for file in keep.checkpoints.iterdir():
        if file.name not in (REFUSED, lifeline.NAME):  # whose lock is held until the run ends
            file.unlink(missing_ok=True)
    raise RefusedError(f"warning: {reason}; nothing was published, the model that is there stays; {_again(keep)}")


def _refused_before(keep: Keep) -> None:
    file = keep.checkpoints / REFUSED
    if file.exists():
        reason = json.loads(file.read_text(encoding="utf-8"))["reason"]
        raise RefusedError(
            f"nothing to do: refused already from the same inputs, configuration and code: {reason}; {_again(keep)}"
        )


def _again(keep: Keep) -> str:
    return f"to train it again, delete {keep.checkpoints / REFUSED}"


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
    words, seen_until = f"the model of {before}", datetime.fromisoformat(model.manifest.as_of)
    if not _same_numbers(job, model, items):
        return _Champion(words, None, "numbers its items or event types otherwise", can_score=False)
    unseen, horizon = (instant(job.as_of) - seen_until).total_seconds() / SECONDS_PER_DAY, job.config.model.horizon_days
    if unseen < horizon:
        return _Champion(words, None, f"has seen all but the last {unseen:g} days, less than a horizon ({horizon:g})")
    return _Champion(words, Rival(folder, seen_until.timestamp()))


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
