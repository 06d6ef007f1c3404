"""The night's raw logs into events, sessions, indexes and sequences."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from halflife import audit, forgetting, sources
from halflife.command import Job
from halflife.config import CatalogueConfig
from halflife.errors import ConfigError
from halflife.forgetting import Request
from halflife.pipelines import history, intake
from halflife.transformations import features, indexes
from halflife.warehouse import Run, digests

READS = ("sources", "event_types", "users", "items", "sessionize", "strength")


def run(job: Job) -> None:
    """Merge the logs of the days since the last night into its state, and publish the night `job.as_of`."""
    store, config = job.warehouse, job.config
    before = store.last_night("sessionize", job.as_of)
    _same_types(job, before)
    intakes = [sources.find(name, source, before, job.as_of) for name, source in config.sources.items()]
    catalogues = [catalogue.path for catalogue in (config.users, config.items) if catalogue is not None]
    asked = forgetting.requests(store)
    inputs = {
        "config": config.model_dump(mode="json", include=set(READS)),
        "before": before and digests(store.manifest("sessionize", before)),
        "files": [intake.fingerprint() for intake in intakes],
        "catalogues": [sources.fingerprint(sources.matching(path)) for path in catalogues],
        "forgotten": sorted(path.name for path in asked),
    }
    job.publish(inputs, lambda night: _stage(job, night, before, intakes, list(asked.values())))
    forgetting.erase(store, made=job.as_of)


def _later_ones_too(job: Job) -> None:
    """Raises ConfigError where later nights build on this one and are not run again behind it."""
    last = max(job.warehouse.nights("sessionize"), default=job.as_of)
    if last > job.until:
        raise ConfigError(
            f"--as-of {job.as_of}: the nights up to {last} are published and build on this one, and its inputs, config "
            f"or code are others now; run them again with it: --from {job.as_of} --as-of {last}"
        )


def _same_types(job: Job, before: date | None) -> None:
    """Raises ConfigError where event types were renamed or reordered: the stored events number them."""
    known = [] if before is None else list(_made_with(job, before)["event_types"])
    if list(job.config.event_types)[: len(known)] != known:
        raise ConfigError(
            f"event_types: the published events have {', '.join(known)}, in this order; add new types behind them"
        )


def _made_with(job: Job, night: date) -> dict[str, Any]:
    """The config of a published night."""
    manifest = job.warehouse.manifest("sessionize", night)
    assert manifest is not None  # it is one of the store's nights
    config: dict[str, Any] = manifest["config"]
    return config


def _stage(
    job: Job, night: Run, before: date | None, found: list[sources.Intake], requests: Sequence[Request]
) -> dict[str, Any]:
    """Write every table of the night, audited; returns the figures for the manifest."""
    _later_ones_too(job)
    with job.stage("clean"):
        brought = intake.read(job, night, found, before, requests)
        rejected = intake.stage_quarantine(job, night, brought)
    with job.stage("index"):
        users = indexes.first_seen(brought.records, "user_id").cache()
        items = indexes.first_seen(brought.records, "item_id")
        _stage_users(job, night, before, users, requests)
        _stage_items(job, night, before, items)
    with job.stage("walk"):
        first_day, active_users = _first_day(users)
        span = history.window_of(job, before, first_day, requests)
        walked = history.stage(job, night, span, brought, requests)
    totals = intake.stage_intake(job, night, brought, walked.accepted, rejected, walked.duplicates)
    return {**totals, "active_users": active_users, "settled_before": span.settled_before.isoformat()}


def _first_day(users: DataFrame) -> tuple[date | None, int]:
    """The day of the earliest event of tonight's users, and how many users there are."""
    found = users.agg(F.min(F.to_date("first_time")), F.count(F.lit(1))).first()
    assert found is not None  # an aggregate without groups has one row
    return found[0], found[1]


def _stage_users(job: Job, night: Run, before: date | None, seen: DataFrame, requests: Sequence[Request]) -> None:
    """Number the new users behind the old ones: those of the catalogue, and those that only the log knows."""
    asked = forgetting.of_users(F.col("user_id"), requests)
    if job.config.users is not None:
        listed = _listed(job, "users", job.config.users, "user_id")
        seen = indexes.with_catalogue(seen, listed.where(~asked), "user_id")
    old: DataFrame | None
    if before is not None and any(request.erase for request in requests):
        # The index stays. It loses its id unless the user has events that are to be kept.
        old = job.warehouse.read(job.spark, "users", before)
        left = (
            history.remaining(job, before, requests).where(asked).select("user_id").unionByName(seen.select("user_id"))
        )
        staying = left.distinct().withColumn("stays", F.lit(True))
        named = old.join(staying, on="user_id", how="left")
        old = named.withColumn("user_id", F.when(~asked | F.col("stays"), F.col("user_id"))).drop("stays")
        night.write("users", old, sort=["user_index"])
    else:
        old = _keep(job, night, before, "users")
    night.add("users", _new_ids(job, before, "users", old, seen, "user_id", "user_index"))


def _stage_items(job: Job, night: Run, before: date | None, seen: DataFrame) -> None:
    """The same for items; where there is a catalogue, all items get tonight's features."""
    catalogue = job.config.items
    if catalogue is None:
        old = _keep(job, night, before, "items")
        new = _new_ids(job, before, "items", old, seen, "item_id", "item_index")
        night.add("items", features.unknown(new))
        return
    listed = _listed(job, "items", catalogue, "item_id").cache()
    old = None if before is None else job.warehouse.read(job.spark, "items", before)
    known = indexes.with_catalogue(seen, listed.select("item_id"), "item_id")
    new = _new_ids(job, before, "items", old, known, "item_id", "item_index")
    night.write("items", features.refreshed(old, new, listed), sort=["item_index"])


def _listed(job: Job, table: str, catalogue: CatalogueConfig, id_column: str) -> DataFrame:
    """A catalogue's rows. Raises AuditError where two have the same id."""
    listed = sources.read_catalogue(job.spark, table, catalogue).withColumnRenamed("id", id_column)
    audit.unique(f"{table}.path {catalogue.path}", listed, id_column)
    return listed


def _keep(job: Job, night: Run, before: date | None, table: str) -> DataFrame | None:
    """The table of the night before, kept as it is."""
    if before is None:
        return None
    night.keep(table, job.warehouse.files(table, before))
    return job.warehouse.read(job.spark, table, before)


def _new_ids(
    job: Job, before: date | None, table: str, old: DataFrame | None, seen: DataFrame, id_column: str, index_column: str
) -> DataFrame:
    """The ids that `old` lacks, with their indexes. Raises AuditError where these do not follow on the old ones."""
    start = 0
    if before is not None and old is not None:
        start = sum(file.described["rows"] for file in job.warehouse.files(table, before))
        seen = seen.join(old.select(id_column), on=id_column, how="left_anti")
    new = indexes.number(seen.select("first_day", id_column), id_column, index_column, start).cache()
    audit.numbered(table, new, index_column, start)
    return new
