"""The second half of sessionize: which days are walked again, the walk itself, and the files that stay as they are."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from halflife import audit, crash, forgetting
from halflife.command import Job
from halflife.config import SourceConfig
from halflife.forgetting import Request
from halflife.histories import walk
from halflife.histories.past import Past
from halflife.nights import instant
from halflife.pipelines.intake import Intake
from halflife.transformations import duplicates, strength, window
from halflife.warehouse import Run, Stored

# What published events were made with: where one of these changed, everything is walked again.
MAKES_HISTORY = ("gap_seconds", "max_session_seconds", "sequence_length", "late_days", "users_per_file")
ROWS_PER_TASK = 1_000_000


@dataclass(frozen=True)
class Window:
    """The days of a night that are walked again."""

    before: date | None  # the night whose tables tonight's build on
    start: date | None  # the first day that is walked again; None: all are
    settled_before: date  # days that no late event can reach share one part of the files
    again: tuple[Stored, ...] = ()  # the published events of these days
    kept: tuple[Stored, ...] = ()  # and those that stay as they are


def window_of(job: Job, before: date | None, first_day: date | None, requests: Sequence[Request]) -> Window:
    """The window of a night whose earliest new event is of `first_day`; None: it has no new one.

    It starts on the first day that has a new event: what lies before stays as it was published. Where events are to
    be forgotten, all days are walked again.
    """
    store = job.warehouse
    settled_before = job.as_of - timedelta(days=job.config.sessionize.late_days)
    if before is None:
        return Window(before, None, settled_before)
    files, manifest = store.files("events", before), store.manifest("sessionize", before)
    assert manifest is not None  # its files are there
    boundary = date.fromisoformat(manifest["metrics"]["settled_before"])
    start = first_day or job.as_of
    forget = any(request.erase for request in requests)
    if forget or start < boundary or not _made_alike(manifest["config"], job):
        return Window(before, None, settled_before, again=tuple(files))
    again = tuple(file for file in files if _reaches(file, start, boundary))
    return Window(before, start, boundary, again, tuple(file for file in files if file not in again))


def _made_alike(then: Mapping[str, Any], job: Job) -> bool:
    """Whether the published events were made by the rules of tonight's config."""
    now = job.config.model_dump(mode="json", include={"sessionize", "strength", "event_types"})
    types = {name: now["event_types"][name] for name in then["event_types"]}
    same = all(then["sessionize"][name] == now["sessionize"][name] for name in MAKES_HISTORY)
    return same and (then["strength"], then["event_types"]) == (now["strength"], types)


def _reaches(file: Stored, day: date, boundary: date) -> bool:
    """Whether a file holds events of the day or of later ones."""
    return day < boundary if file.part == walk.SETTLED else file.part >= day.isoformat()


@dataclass
class Walked:
    """What the walk has written, and what became of the records of each input file."""

    rows: dict[str, int] = field(default_factory=dict)  # by table
    parts: dict[str, set[str]] = field(default_factory=dict)  # by table
    accepted: dict[tuple[str, str], int] = field(default_factory=dict)  # by (source, source_file)
    duplicates: dict[tuple[str, str], int] = field(default_factory=dict)


def remaining(job: Job, before: date, requests: Sequence[Request]) -> DataFrame:
    """The published events of a night without those that are still to be forgotten."""
    events = job.warehouse.read(job.spark, "events", before)
    pending = [request for request in requests if request.erase]
    return events.where(~forgetting.asked(F.col("user_id"), F.col("event_id"), F.col("event_time"), pending))


def stage(job: Job, night: Run, span: Window, intake: Intake, requests: Sequence[Request]) -> Walked:
    """Write events, sessions and sequences: what the window changes is walked again, what it does not is kept."""
    published = job.warehouse.read_files(job.spark, "events", span.again)
    again = sum(file.described["rows"] for file in span.again)
    if span.before is not None and any(request.erase for request in requests):
        published = remaining(job, span.before, requests).cache()
        again = published.count()
    walked = _walk(job, night, span, intake, published, again)
    audit.same_count("events", walked.rows.get("events", 0), again + sum(walked.accepted.values()))
    if walk.ACTIVE not in walked.rows:
        night.write_rows(walk.ACTIVE, [])
    if span.before is not None and span.start is not None:
        store, buckets = job.warehouse, walked.parts.get("sequences", set())
        night.keep("events", span.kept)
        night.keep("sequences", [file for file in store.files("sequences", span.before) if file.part not in buckets])
        parts = walked.parts.get("sessions", set())
        _keep_sessions(job, night, span.before, span.start, span.settled_before, parts)
    return walked


def _walk(job: Job, night: Run, span: Window, intake: Intake, published: DataFrame, again: int) -> Walked:
    """Walk over tonight's records and the `again` events `published` in the window."""
    files = _files(intake, published if again else None)
    settings = _settings(job, night, span, files)
    history = _history(job, night, span, intake, files, published if again else None)
    ordered = window.in_order(history, _tasks(job, night, sum(intake.rows_read.values()) + again))

    def walk_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for listing in walk.walk(batches, settings):
            crash.worker("walk")  # its files are written, and not yet known of
            yield listing

    for table in settings.folders:
        night.path(table).mkdir()
    listing = ordered.mapInArrow(walk_partition, from_arrow_schema(walk.LISTING)).collect()
    for table in settings.folders:
        night.only(table, {row["file"] for row in listing if row["table"] == table})
    return _summed(listing, files)


def _tasks(job: Job, night: Run, rows: int) -> int:
    """How many tasks share the walk over so many rows.

    On a small night most of the work is to write the sequences of all buckets again: two tasks a core, as buckets are
    not alike, but not more, as each task writes files of its own.
    """
    buckets = math.ceil(night.rows("users") / job.config.sessionize.users_per_file)
    return max(1, math.ceil(rows / ROWS_PER_TASK), min(2 * job.cores, buckets))


def _summed(listing: list[Row], files: list[tuple[str, str]]) -> Walked:
    walked = Walked()
    for row in listing:
        if row["table"] is not None:
            walked.rows[row["table"]] = walked.rows.get(row["table"], 0) + row["rows"]
            walked.parts.setdefault(row["table"], set()).add(row["part"])
        else:
            file = files[row["file_index"]]
            walked.accepted[file] = walked.accepted.get(file, 0) + row["accepted"]
            walked.duplicates[file] = walked.duplicates.get(file, 0) + row["duplicates"]
    return walked


def _files(intake: Intake, published: DataFrame | None) -> list[tuple[str, str]]:
    """The (source, source_file) of all rows that are walked: tonight's in the order of their arrival."""
    files = list(intake.rows_read)
    if published is None:
        return files
    others = {tuple(row) for row in published.select("source", "source_file").distinct().collect()} - set(files)
    return files + sorted(others)


def _settings(job: Job, night: Run, span: Window, files: list[tuple[str, str]]) -> walk.Settings:
    config, store = job.config.sessionize, job.warehouse
    items = night.scratch("items") / "ids.arrow"
    items.parent.mkdir()
    ids = pq.read_table(night.path("items"), columns=["item_index", "item_id"]).sort_by("item_index")
    with pa.OSFile(str(items), "wb") as sink, pa.ipc.new_file(sink, ids.schema) as writer:
        writer.write_table(ids.combine_chunks())
    tables = ["events", "sessions", "sequences"]
    old: dict[int, list[str]] = {}
    if span.before is not None and span.start is not None:
        for file in store.files("sequences", span.before):
            old.setdefault(walk.bucket_of(file.part), []).append(str(file.path))
        tables.append(walk.ACTIVE)  # else it would be all of sequences, written twice
    return walk.Settings(
        gap_seconds=config.gap_seconds,
        max_session_seconds=config.max_session_seconds,
        sequence_length=config.sequence_length,
        folders={table: str(night.path(table)) for table in tables},
        settled_before_micros=_micros(instant(span.settled_before)),
        items=str(items),
        event_types=list(job.config.event_types),
        files=files,
        restate_from_micros=None if span.start is None else _micros(instant(span.start)),
        old_sequences=old,
        past=_past(job, span),
    )


def _micros(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000)


def _history(
    job: Job, night: Run, span: Window, intake: Intake, files: list[tuple[str, str]], published: DataFrame | None
) -> DataFrame:
    """All rows that are walked: tonight's, and those published in the window."""
    spark, config = job.spark, job.config
    users, items = (night.read(spark, table) for table in ("users", "items"))
    numbered = spark.createDataFrame(
        [(place, *file) for place, file in enumerate(files)], "file_index int, source string, source_file string"
    )
    bucket = F.floor(F.col("user_index") / config.sessionize.users_per_file)
    records = strength.with_strength(intake.records, config.event_types, config.strength, config.sources)
    rows = window.of_records(records, users, items, numbered, bucket)
    if published is not None:
        keyed = duplicates.event_keys(duplicates.published(published, config.sources), config.sources)
        made = strength.with_strength(keyed, config.event_types, config.strength, config.sources)
        rows = rows.unionByName(window.of_published(made, numbered, bucket))
    # Published events may have what no source of tonight has.
    return rows.drop(*_unmapped(config.sources.values())) if span.before is None else rows


def _unmapped(sources: Iterable[SourceConfig]) -> set[str]:
    """Columns of an event that no source has: on the first night they are null, and need not be carried about."""
    parts = {"event_id": "event_id", "session_id": "given_session_id"}
    parts |= {name: name for name in ("dwell_seconds", "rating", "quantity")}
    mapped = {part for source in sources for part in source.columns.mapped}
    absent = {column for part, column in parts.items() if part not in mapped}
    return absent if any(source.columns.context for source in sources) else absent | {"context"}


def _past(job: Job, span: Window) -> Past:
    """Where the walk finds what the rows of the window must know of the events before it."""
    if span.start is None:
        return Past()
    config = job.config.sessionize
    reach = instant(span.start) - timedelta(seconds=config.max_session_seconds + config.gap_seconds)
    near = frozenset(str(file.path) for file in span.kept if _reaches(file, reach.date(), span.settled_before))
    given = any(source.columns.session_id is not None for source in job.config.sources.values())
    return Past([str(file.path) for file in span.kept], near, _micros(reach), given)


def _keep_sessions(
    job: Job, night: Run, before: date, start: date, settled_before: date, walked: Collection[str]
) -> None:
    """Keep the sessions that ended before the window's start, but for those that go on in it.

    The parts that hold one which does are among those `walked`: they are written again without it.
    """
    spark, store = job.spark, job.warehouse
    files = store.files("sessions", before)
    earlier = [file for file in files if _precedes(file, start)]
    night.keep("sessions", [file for file in earlier if file.part not in walked])
    touched = [file for file in earlier if file.part in walked]
    if touched:
        day = F.to_date("start_time")
        part = F.when(day < F.lit(settled_before), walk.SETTLED).otherwise(day.cast("string"))
        resumed = night.read(spark, "sessions").where(F.col("start_time") < F.lit(instant(start)))
        key = ["user_index", "session_id"]
        rest = store.read_files(spark, "sessions", touched).join(resumed.select(*key), on=key, how="left_anti")
        night.add_parts("sessions", rest, part)


def _precedes(file: Stored, day: date) -> bool:
    """Whether all that a file holds is of earlier days."""
    return file.part == walk.SETTLED or file.part < day.isoformat()
