"""The night's table: encode the users with new events, update the memory, score every pair."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from halflife import audit, histogram
from halflife.command import Job
from halflife.errors import ModelError
from halflife.memory import Pace
from halflife.model import artifact
from halflife.model.artifact import Model
from halflife.model.manifest import catalogue_digest
from halflife.nights import instant
from halflife.scoring import encode, order, rollups, tables
from halflife.transformations import memory
from halflife.warehouse import Run, digests

READS = ("model", "score", "event_types")
PAIR = ["user_index", "item_index"]
# What a jump is made of: an event that differs in one of these is another one.
COMPARED = ("user_index", "event_time", "event_id", *encode.EVENT_COLUMNS)

# Of which a category's strength is added up: a user's counts up to LARGEST_STRENGTH, and 100 million users have room.
STRENGTH_PARTS = 2.0**20
LARGEST_STRENGTH = 1e5

# To be raised where the code makes other states from the same events: those that are there are then made anew.
STATES = 1

# What of the config says which pairs `scores` has.
WHICH_PAIRS = ("output", "floor")
WATCHED_QUANTILES = ("p50", "p90", "p99", "p99.9")

# What of the config is in the state of a pair.
IN_STATES = ("revival_retained_share", "revival_silence_days", "faded_below")


def run(job: Job) -> None:
    """Score every pair as of `job.as_of` from the published events, sequences and model, and publish the night."""
    store, config = job.warehouse, job.config
    store.path("events", job.as_of)  # the night must have been sessionized
    trained = store.last_night("train", job.as_of, inclusive=True)
    before = store.last_night("score", job.as_of)
    inputs = {
        "config": config.model_dump(mode="json", include=set(READS)),
        "sessionize": digests(store.manifest("sessionize", job.as_of)),
        "model": trained and digests(store.manifest("train", trained)),
        "before": before and digests(store.manifest("score", before)),
    }
    job.publish(inputs, lambda night: _stage(job, night, trained, before))


@dataclass(frozen=True)
class _Changes:
    """Events that are new or otherwise than before, and events that are gone or otherwise now."""

    added: DataFrame
    removed: DataFrame

    def touched(self, *key: str) -> DataFrame:
        """The users or pairs of either."""
        return self.added.select(*key).unionByName(self.removed.select(*key)).distinct()


def _stage(job: Job, night: Run, trained: date | None, before: date | None) -> dict[str, Any]:
    """Write every table of the night, audited; returns the figures for the manifest."""
    model, directory = _model(job, night, trained)
    _fits(job, model)
    kept = _kept_night(job, before, model)
    with job.stage("encode"):
        changes = _changes(job, kept)
        encoded, skipped = _stage_user_states(job, night, kept, changes, directory)
        job.progress.say(f"{encoded:,} users encoded, {skipped:,} carried over")
    with job.stage("memory"):
        _stage_memory(job, night, kept, changes, model, directory)
    with job.stage("score"):
        scored = stage_scores(job, night, model)
        stage_trend(job, night, model, before)
        job.progress.say(f"{scored['pairs']:,} pairs")
    _watch(job, model, None if kept is None else encoded / max(encoded + skipped, 1), scored["score_histogram"])
    return {
        "model": model.version,
        "model_kind": model.kind,
        "states": STATES,
        "half_lives_days": model.half_lives_days.tolist(),
        "horizon_days": model.horizon_days,
        "encoded": encoded,
        "skipped": skipped,
        **scored,
    }


def _model(job: Job, night: Run, trained: date | None) -> tuple[Model, Path]:
    """The last model trained by the night; the exponential law where there is none, or where the config gives it."""
    given = job.config.model.kind == "exponential" and not job.config.model.fit_half_life
    if trained is not None and not given:
        directory = job.warehouse.path("models", trained)
        return artifact.load(directory), directory
    why = "model.kind is exponential" if given else "no trained model"
    job.progress.say(f"{why}: scoring by the exponential law with {job.config.model.half_life_days:g} days")
    directory = night.scratch("exponential")
    law = artifact.exponential(
        directory,
        half_life_days=job.config.model.half_life_days,
        horizon_days=job.config.model.horizon_days,
        sequence_length=job.config.sessionize.sequence_length,
        event_types=list(job.config.event_types),
        items=job.warehouse.read(job.spark, "items", job.as_of).orderBy("item_index").toPandas(),
        as_of_seconds=0.0,  # the law has no date: it is the same one every night, and its memory goes on
        config={},
    )
    return law, directory


def _fits(job: Job, model: Model) -> None:
    """Raises ModelError where the model numbers items or event types otherwise than tonight's tables do."""
    if model.kind == "exponential":
        return  # it knows neither
    items = job.warehouse.read(job.spark, "items", job.as_of)
    known = items.where(F.col("item_index") < model.items).orderBy("item_index").select("item_id").toPandas()
    if catalogue_digest(known["item_id"]) != model.manifest.catalogue_digest:
        raise ModelError(f"model {model.version} was trained on another numbering of the items; train again")
    types = tuple(job.config.event_types)
    if types[: len(model.event_types)] != model.event_types:
        raise ModelError(
            f"model {model.version} was trained on the event types {', '.join(model.event_types)}, the config has "
            f"{', '.join(types)}; put them into that order, or train again"
        )


def _kept_night(job: Job, before: date | None, model: Model) -> date | None:
    """The night whose states tonight's build on: the last one, unless it made them otherwise, or of other events."""
    store = job.warehouse
    manifest = None if before is None else store.manifest("score", before)
    if before is None or manifest is None or manifest["metrics"]["model"] != model.version:
        return None
    now = job.config.score.model_dump(mode="json", include=set(IN_STATES))
    then = manifest["config"]["score"]
    if manifest["metrics"]["horizon_days"] != model.horizon_days or any(then.get(name) != now[name] for name in now):
        return None
    if manifest["metrics"].get("states") != STATES:
        return None
    return before if manifest["inputs"]["sessionize"] == digests(store.manifest("sessionize", before)) else None


def _changes(job: Job, kept: date | None) -> _Changes:
    """What the events are tonight that they were not on the night whose states tonight's build on."""
    store, spark = job.warehouse, job.spark
    if kept is None:
        everything = store.read(spark, "events", job.as_of).select(*COMPARED)
        return _Changes(everything, everything.limit(0))
    new, old = store.changed_files("events", since=kept, until=job.as_of)
    added, removed = (store.read_files(spark, "events", files).select(*COMPARED) for files in (new, old))
    if not old:
        return _Changes(added, removed)
    # Days that late events reached were written again: most of their rows are what they were.
    return _Changes(added.exceptAll(removed).cache(), removed.exceptAll(added).cache())


def _stage_user_states(job: Job, night: Run, kept: date | None, changes: _Changes, directory: Path) -> tuple[int, int]:
    """Encode exactly the users with new events, carry over the others; returns how many of each."""
    sequences = job.warehouse.read(job.spark, "sequences", job.as_of)
    active = changes.touched("user_index")
    # As many tasks as cores: each loads the model once, and a user costs the same wherever it lies.
    due = sequences.join(active, on="user_index", how="left_semi").repartition(job.cores, "user_index")
    encoded = Observation("encoded")
    states = encode.user_states(due, directory).observe(encoded, F.count(F.lit(1)).alias("users"))
    if kept is not None:
        old = job.warehouse.read(job.spark, "user_states", kept)
        states = states.unionByName(old.join(active, on="user_index", how="left_anti"))
    night.write("user_states", states, sort=["user_index"])
    # Counted where it happened: what came out of the network, not what should have gone in.
    users, everyone = int(encoded.get["users"]), night.read(job.spark, "user_states").count()
    audit.same_count("user_states", everyone, sequences.count())
    return users, everyone - users


def _stage_memory(job: Job, night: Run, kept: date | None, changes: _Changes, model: Model, directory: Path) -> None:
    """Bring the memory of the pairs that tonight touches up to date; the other pairs stay as they are.

    A pair whose new events all follow its last one has their jumps added to its state. A pair with an event that came
    late, or is gone, is added up anew from all its events: the jumps of its later events may be others now.
    """
    config, store = job.config.score, job.warehouse
    if kept is None:
        states, untouched = encode.jumps(changes.added, directory), None
    else:
        old, touched = store.read(job.spark, "memory", kept).drop("faded_on"), changes.touched(*PAIR)
        stale = _stale(old, changes).cache()
        following = encode.jumps(changes.added.join(stale, on=PAIR, how="left_anti"), directory)
        again = store.read(job.spark, "events", job.as_of).join(stale, on=PAIR, how="left_semi")
        goes_on = old.join(touched, on=PAIR, how="left_semi").join(stale, on=PAIR, how="left_anti")
        states = following.unionByName(goes_on)
        if not stale.isEmpty():
            states = states.unionByName(encode.jumps(again, directory))
        untouched = store.read(job.spark, "memory", kept).join(touched, on=PAIR, how="left_anti")
    pace = Pace(model.half_lives_days, model.horizon_days, config.revival_retained_share, config.revival_silence_days)
    merged = memory.merge(states, pace, config.faded_below)
    night.write("memory", merged if untouched is None else merged.unionByName(untouched), sort=PAIR)


def _stale(old: DataFrame, changes: _Changes) -> DataFrame:
    """The pairs whose state cannot go on from the `old` memory."""
    first = changes.added.groupBy(*PAIR).agg(F.min("event_time").alias("first_time"))
    late = old.join(first, on=PAIR, how="inner").where(F.col("first_time") <= F.col("anchor_time"))
    return late.select(*PAIR).unionByName(changes.removed.select(*PAIR)).distinct()


def stage_scores(job: Job, night: Run, model: Model) -> dict[str, Any]:
    """Write the scores that are asked for and each user's best items.

    Returns figures: all pairs, those below the floor, and the histogram of the scores that were written.
    """
    store, spark, config = job.warehouse, job.spark, job.config.score
    catalogue = store.read(spark, "items", job.as_of)
    items = catalogue.select("item_index", "item_id", "category", "category_index").toPandas()
    new = catalogue.where(F.col("item_index") >= model.items).toPandas()
    ids, categories, position, side = tables.in_item_order(items, model.item_side(len(items), new))
    context = tables.Night(
        at_seconds=instant(job.as_of).timestamp(),
        half_lives_days=model.half_lives_days,
        horizon_days=model.horizon_days,
        event_types=tuple(job.config.event_types),
        ids=ids,
        categories=categories,
        position=position,
        side=side,
    )
    users = order.by_id(
        spark,
        store.path("users", job.as_of),
        {table: night.path(table) for table in order.COLUMNS},
        night.scratch("order"),
        context.at_seconds,
        model.half_lives_days,
        model.horizon_days,
    )
    pairs = users.users * len(items)
    rounds = max(1, math.ceil(pairs / config.rows_per_file / job.cores))  # of as many tasks as there are cores
    folders: dict[str, Path] = {table: night.path(table) for table in tables.DICTIONARY}
    written = tables.write(spark, users, context, folders, config, rounds * job.cores)
    if config.layout == "arrays":
        rows = users.users
    elif config.output == "top_n":
        rows = sum(row["rows"] for row in written if row["table"] == "recommendations")
    elif config.output == "observed":
        rows = users.pairs
    else:
        rows = pairs
    left_out = audit.scores(written, rows)
    counts = np.sum([row["histogram"] for row in written if row["table"] == "scores"], axis=0, dtype=np.int64)
    return {"pairs": pairs, "pairs_below_floor": left_out, "score_histogram": histogram.described(counts)}


def _watch(job: Job, model: Model, encoded_share: float | None, histogram: Mapping[str, Any]) -> None:
    """Compare tonight with the last nights; a share of None says that all had to be encoded anew."""
    if encoded_share is not None:
        job.alarms.figures("encoded_share", {"encoded_share": encoded_share})
    asked = job.config.score.model_dump(include=set(WHICH_PAIRS))

    def same_pairs(manifest: Mapping[str, Any]) -> bool:
        then = manifest["config"]["score"]
        return _comparable(manifest, model) and all(then.get(key) == value for key, value in asked.items())

    quantiles = {f"score_{name}": histogram["quantiles"].get(name) for name in WATCHED_QUANTILES}
    found = {name: value for name, value in quantiles.items() if value is not None}
    job.alarms.figures("score_quantiles", found, comparable=same_pairs)


def _comparable(manifest: Mapping[str, Any], model: Model) -> bool:
    """Whether a night's strengths are of tonight's kind: another law or horizon is no trend."""
    figures = manifest["metrics"]
    return bool(figures["model_kind"] == model.kind and figures["horizon_days"] == model.horizon_days)


def stage_trend(job: Job, night: Run, model: Model, before: date | None) -> None:
    """Write how each category goes: tonight's totals beside the strengths that the night before published."""
    interest = night.read(job.spark, "interest_by_category")
    # Whole numbers, of 1e-6 each: a sum of floats would depend on the order of its terms, and one of decimals takes
    # ten times as long.
    strength = F.least(F.col("strength").cast("double"), F.lit(LARGEST_STRENGTH))
    parts = F.sum(F.round(strength * STRENGTH_PARTS).cast("long"))
    totals = interest.groupBy("category").agg(
        (parts / STRENGTH_PARTS).alias("strength"),
        F.count_if(F.col("score") >= job.config.score.interested_above).alias("users"),
    )
    tonight = {row["category"]: (row["strength"], row["users"]) for row in totals.collect()}
    last = before and job.warehouse.manifest("score", before)
    rows = job.warehouse.rows("category_trend", before) if before and last and _comparable(last, model) else []
    known = {row["category"]: row["strengths"] for row in rows}
    night.write_rows("category_trend", rollups.trend(job.as_of, tonight, known, before))
