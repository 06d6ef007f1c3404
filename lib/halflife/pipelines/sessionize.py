"""The night's raw logs into events, sessions, indexes and sequences."""

from __future__ import annotations

from datetime import date
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from halflife import audit, schemas, sources
from halflife.command import Job
from halflife.config import Config
from halflife.errors import ConfigError, InputMissingError
from halflife.transformations import cleaning, indexes, sequences, sessions
from halflife.warehouse import Run, digests

READS = ("sources", "event_types", "users", "items", "sessionize")


def run(job: Job) -> None:
    """Merge the logs of the days since the last night into its state, and publish the night `job.as_of`."""
    store, config = job.warehouse, job.config
    before = store.last_night("sessionize", job.as_of)
    _same_types(job, before)
    intakes = [sources.find(name, source, before, job.as_of) for name, source in config.sources.items()]
    catalogues = [catalogue.path for catalogue in (config.users, config.items) if catalogue is not None]
    inputs = {
        "config": config.model_dump(mode="json", include=set(READS)),
        "before": before and digests(store.manifest("sessionize", before)),
        "files": [intake.fingerprint() for intake in intakes],
        "catalogues": [sources.fingerprint(sources.matching(path)) for path in catalogues],
    }
    job.publish(inputs, lambda night: _stage(job, night, before, intakes))


def _last_to_build_on(job: Job) -> None:
    """Raises ConfigError where later nights stand on this one: their indexes and sessions would no longer fit."""
    later = [night for night in job.warehouse.nights("sessionize") if night > job.as_of]
    if later:
        raise ConfigError(
            f"--as-of {job.as_of}: the night of {later[0]} is published and holds or builds on these days; "
            f"deliver what came late in the files of a day after {later[-1]}, or rebuild in a new warehouse"
        )


def _same_types(job: Job, before: date | None) -> None:
    """Raises ConfigError where event types were renamed or reordered: the stored events number them."""
    manifest = None if before is None else job.warehouse.manifest("sessionize", before)
    known = [] if manifest is None else list(manifest["config"]["event_types"])
    if list(job.config.event_types)[: len(known)] != known:
        raise ConfigError(
            f"event_types: the published events have {', '.join(known)}, in this order; add new types behind them"
        )


def _settings_changed(job: Job, before: date | None) -> bool:
    """Whether the last night's sequences and sessions were made with other lengths and gaps."""
    manifest = None if before is None else job.warehouse.manifest("sessionize", before)
    now = job.config.sessionize
    then = {} if manifest is None else manifest["config"]["sessionize"]
    return (then.get("sequence_length"), then.get("gap_seconds")) != (now.sequence_length, now.gap_seconds)


def _stage(job: Job, night: Run, before: date | None, intakes: list[sources.Intake]) -> dict[str, int]:
    """Write every table of the night, audited; returns the counts for the manifest."""
    _last_to_build_on(job)
    spark, config, store = job.spark, job.config, job.warehouse
    history = None if before is None else store.read(spark, "events", before)
    with job.stage("clean"):
        read = [sources.read(spark, found) for found in intakes if found.files]
        raw = reduce(DataFrame.unionByName, read) if read else spark.createDataFrame([], schemas.RAW)
        judged = cleaning.judge(raw, job.as_of, config.event_types, config.sessionize)
        marked = cleaning.mark_duplicates(cleaning.accepted(judged), history).cache()
        night.write("quarantine", cleaning.quarantined(judged), sort=["source", "source_file"])
        night.write("intake", cleaning.intake_counts(judged, marked), sort=["source", "source_file"])
        totals = _audit_intake(spark, night, config)
    fresh = cleaning.with_strength(marked.where(~F.col("duplicate")), config.event_types).drop("duplicate")
    with job.stage("index"):
        _stage_indexes(job, night, before, fresh)
    with job.stage("sessions"):
        _stage_events(job, night, history, fresh)
    marked.unpersist()
    with job.stage("sequences"):
        totals["active_users"] = _stage_users(job, night, before, history)
    audit.same_count("events", totals["accepted"], night.read(spark, "events").count())
    return totals


def _audit_intake(spark: SparkSession, night: Run, config: Config) -> dict[str, int]:
    totals = audit.intake_adds_up(night.read(spark, "intake"))
    if not totals["rows_read"] and not config.sessionize.allow_empty_night:
        raise InputMissingError(
            f"no rows for the night of {night.as_of}: the sources have no files for it, or empty ones; deliver "
            "the logs, or set sessionize.allow_empty_night=true if nothing happened"
        )
    audit.quarantine_within(night.read(spark, "quarantine"), totals, config.sessionize.max_quarantine_share)
    return totals


def _stage_indexes(job: Job, night: Run, before: date | None, fresh: DataFrame) -> None:
    """Number the new users and items: those of the catalogues, and those that only the log knows."""
    spark, config, store = job.spark, job.config, job.warehouse
    for table, id_column, index_column, catalogue in (
        ("users", "user_id", "user_index", config.users),
        ("items", "item_id", "item_index", config.items),
    ):
        known = fresh.select(F.col(id_column)).distinct()
        if catalogue is not None:
            listed = sources.read_catalogue(spark, table, catalogue).withColumnRenamed("id", id_column)
            audit.unique(f"{table}.path {catalogue.path}", listed, id_column)
            known = known.join(listed, on=id_column, how="full_outer")
        else:
            known = known.withColumns({name: F.lit(None).cast("string") for name in ("title", "category")})
        if table == "users":
            known = known.select(id_column)
        old = None if before is None else store.read(spark, table, before)
        night.write(table, indexes.extend(old, known, id_column, index_column), sort=[index_column])
        audit.unique(table, night.read(spark, table), id_column)
        audit.dense(table, night.read(spark, table), index_column)


def _stage_events(job: Job, night: Run, history: DataFrame | None, fresh: DataFrame) -> None:
    """Give tonight's events their sessions and their places after the events of the same users before."""
    tonight = fresh.withColumn("tonight", F.lit(True))
    if history is not None:
        given = F.when(F.col("session_given"), F.col("session_id"))
        past = history.withColumns({"given_session_id": given, "tonight": F.lit(False)}).select(*tonight.columns)
        active = fresh.select("user_id").distinct()
        tonight = tonight.unionByName(past.join(active, on="user_id", how="left_semi"))
    assigned = sessions.assign(tonight, job.config.sessionize.gap_seconds).where("tonight")
    users, items = (night.read(job.spark, table) for table in ("users", "items"))
    numbered = assigned.join(users, on="user_id", how="inner").join(
        items.select("item_id", "item_index"), on="item_id", how="inner"
    )
    night.write("events", numbered, sort=["user_index", *sessions.ORDER])


def _stage_users(job: Job, night: Run, before: date | None, history: DataFrame | None) -> int:
    """Sequences and sessions of the users with events tonight; everyone else's are carried over."""
    spark, config, store = job.spark, job.config.sessionize, job.warehouse
    events = night.read(spark, "events")
    active = events.select("user_index").distinct().cache()
    carried = None if _settings_changed(job, before) else before
    if history is not None:
        past = history if carried is None else history.join(active, on="user_index", how="left_semi")
        events = events.unionByName(past)
    for table, made, sort in (
        ("sequences", sequences.last_events(events, config.sequence_length), ["user_index"]),
        ("sessions", sessions.summarise(events, config.gap_seconds), ["user_index", "start_time"]),
    ):
        if carried is not None:
            old = store.read(spark, table, carried)
            made = made.unionByName(old.join(active, on="user_index", how="left_anti"))
        night.write(table, made, sort=sort)
    return active.count()
