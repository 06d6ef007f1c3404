"""The night's table: encode the users with new events, update the memory, score every pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from pyspark.sql import Row

from halflife import audit, histogram
from halflife.command import Job
from halflife.errors import ModelError
from halflife.model import artifact
from halflife.model.artifact import Model
from halflife.model.manifest import catalogue_digest
from halflife.nights import instant
from halflife.pipelines import states
from halflife.scoring import order, rollups, tables
from halflife.warehouse import Run, digests

READS = ("model", "score", "event_types")

# What of the config says which pairs `scores` has.
WHICH_PAIRS = ("output", "floor")
WATCHED_QUANTILES = ("p50", "p90", "p99", "p99.9")

Totals = Mapping[str, tuple[float, int]]  # of a category: its strength, and how many users are interested


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


def _stage(job: Job, night: Run, trained: date | None, before: date | None) -> dict[str, Any]:
    """Write every table of the night, audited; returns the figures for the manifest."""
    model, directory = _model(job, night, trained)
    _fits(job, model)
    kept = states.kept_night(job, before, model)
    with job.stage("encode"):
        changes = states.changes(job, kept)
        encoded, skipped = states.stage_user_states(job, night, kept, changes, model, directory)
        job.progress.say(f"{encoded:,} users encoded, {skipped:,} carried over")
    with job.stage("memory"):
        states.stage_memory(job, night, kept, changes, model, directory)
    with job.stage("score"):
        scored, totals = stage_scores(job, night, model)
        stage_trend(job, night, model, before, totals)
        job.progress.say(f"{scored['pairs']:,} pairs")
    _watch(job, model, None if kept is None else encoded / max(encoded + skipped, 1), scored["score_histogram"])
    return {
        "model": model.version,
        "model_kind": model.kind,
        "states": states.STATES,
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
        items=_catalogue(job, ["item_index", "item_id", "category"]),
        as_of_seconds=0.0,  # the law has no date: it is the same one every night, and its memory goes on
        config={},
    )
    return law, directory


def _fits(job: Job, model: Model) -> None:
    """Raises ModelError where the model numbers items or event types otherwise than tonight's tables do."""
    if model.kind == "exponential":
        return  # it knows neither
    known = _catalogue(job, ["item_index", "item_id"], ds.field("item_index") < model.items)["item_id"]
    if catalogue_digest(known) != model.manifest.catalogue_digest:
        raise ModelError(f"model {model.version} was trained on another numbering of the items; train again")
    types = tuple(job.config.event_types)
    if types[: len(model.event_types)] != model.event_types:
        raise ModelError(
            f"model {model.version} was trained on the event types {', '.join(model.event_types)}, the config has "
            f"{', '.join(types)}; put them into that order, or train again"
        )


def _catalogue(job: Job, columns: list[str] | None = None, only: ds.Expression | None = None) -> pd.DataFrame:
    """The night's items by their index. By Arrow: a query of Spark's takes a second till its code is made."""
    items = ds.dataset(job.warehouse.path("items", job.as_of))
    found: pd.DataFrame = items.to_table(columns=columns, filter=only).sort_by("item_index").to_pandas()
    return found


def stage_scores(job: Job, night: Run, model: Model) -> tuple[dict[str, Any], Totals]:
    """Write the scores that are asked for and each user's best items.

    Returns figures (all pairs, those below the floor, the histogram of the scores that were written), and what the
    interest in each category adds up to.
    """
    store, spark, config = job.warehouse, job.spark, job.config.score
    items = _catalogue(job, ["item_index", "item_id", "category", "category_index"])
    new = _catalogue(job, only=ds.field("item_index") >= model.items)
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
    for table in folders:
        night.only(table, {row["file"] for row in written if row["table"] == table})
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
    figures = {"pairs": pairs, "pairs_below_floor": left_out, "score_histogram": histogram.described(counts)}
    return figures, _totals(categories.present, written)


def _totals(names: Sequence[str], written: Sequence[Row]) -> Totals:
    """What the tasks say of the categories, added up."""
    sums = np.zeros(2 * len(names), dtype=np.int64)
    for row in written:
        if row["totals"]:
            sums += row["totals"]
    parts, users = sums.reshape(2, -1).tolist()
    return {name: (parts[place] / rollups.STRENGTH_PARTS, users[place]) for place, name in enumerate(names)}


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


def stage_trend(job: Job, night: Run, model: Model, before: date | None, tonight: Totals) -> None:
    """Write how each category goes: tonight's totals beside the strengths that the night before published."""
    last = before and job.warehouse.manifest("score", before)
    rows = job.warehouse.rows("category_trend", before) if before and last and _comparable(last, model) else []
    known = {row["category"]: row["strengths"] for row in rows}
    night.write_rows("category_trend", rollups.trend(job.as_of, tonight, known, before))
