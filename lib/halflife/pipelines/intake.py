"""The first half of sessionize: raw files in, judged records out, and the account of every row that was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from halflife import audit, forgetting, schemas, sources
from halflife.command import Job
from halflife.errors import InputMissingError
from halflife.forgetting import Request
from halflife.nights import instant
from halflife.transformations import bots, cleaning, duplicates, missing, pseudonyms
from halflife.warehouse import Run

# So many judged rows, or fewer, are written down before the steps that work on them.
KEPT_ROWS = 3_000_000

Counts = Mapping[tuple[str, str], int]  # rows by (source, source_file)


@dataclass(frozen=True)
class Intake:
    """What a night has read: its judged records, and how many rows each file has, in the order of arrival."""

    judged: DataFrame
    rows_read: Counts

    @property
    def records(self) -> DataFrame:
        """The records that are accepted, but for repeats of one another."""
        return self.judged.where(F.col("reason").isNull() & ~F.col("duplicate"))


def read(
    job: Job, night: Run, found: Sequence[sources.Intake], before: date | None, requests: Sequence[Request]
) -> Intake:
    """Read and judge the files that a night has found.

    Raises InputMissingError where there is not one row.
    """
    raws = [(intake, sources.read(job.spark, intake)) for intake in found if intake.files]
    if job.pseudonyms is not None:
        raws = [(intake, pseudonyms.records(raw, job.pseudonyms)) for intake, raw in raws]
    rows_read = _rows_read([raw for _, raw in raws])
    rows = sum(rows_read.values())
    if not rows and not job.config.sessionize.allow_empty_night:
        raise InputMissingError(
            f"no rows for the night of {job.as_of}: the sources have no files for it, or empty ones; deliver "
            "the logs, or set sessionize.allow_empty_night=true if nothing happened"
        )
    judged = _judge(job, raws, before, requests)
    if rows > KEPT_ROWS and all(intake.source.format == "parquet" for intake, _ in raws):
        return Intake(judged, rows_read)
    # Text is parsed once, and not by every step that follows; and of a small night the plans cost more than the rows.
    kept = night.scratch("judged")
    rejected_text = F.when(F.col("reason").isNotNull(), F.col("raw"))
    judged.withColumn("raw", rejected_text).write.parquet(str(kept))
    return Intake(job.spark.read.schema(judged.schema).parquet(str(kept)), rows_read)


def _rows_read(raws: Sequence[DataFrame]) -> dict[tuple[str, str], int]:
    """Rows of each file, counted apart from all that is done with them; ordered by day, source and path."""
    if not raws:
        return {}
    counted = reduce(DataFrame.unionByName, map(cleaning.rows_read, raws)).collect()
    ordered = sorted(counted, key=lambda row: (str(row["arrival_day"] or ""), row["source"], row["source_file"]))
    return {(row["source"], row["source_file"]): row["rows_read"] for row in ordered}


def _judge(
    job: Job, raws: Sequence[tuple[sources.Intake, DataFrame]], before: date | None, requests: Sequence[Request]
) -> DataFrame:
    """The records with the reason why each is rejected, or that it is a duplicate of another."""
    config = job.config
    judged = [
        cleaning.judge(raw, intake.source, config.event_types, job.as_of, config.sessionize) for intake, raw in raws
    ]
    if not judged:
        judged = [job.spark.createDataFrame([], schemas.RAW).withColumn("reason", F.lit(None).cast("string"))]
    flagged = bots.flag(reduce(DataFrame.unionByName, judged), config.sessionize)
    filled = missing.fill(flagged, config.sessionize, config.sources, config.event_types)
    # Behind the estimates: a day's means stay what they were, or the events that have them would all be others.
    keyed = _without_forgotten(duplicates.event_keys(filled, config.sources), requests)
    late = timedelta(days=config.sessionize.late_days)
    settled = None if before is None else instant(before) - late
    # What may repeat a record of tonight lies as far before it as that may lie before its night.
    near = _published(job, before, settled and settled - late)
    unique = duplicates.flag_repeated_ids(keyed, near, config.sources, late)
    aged = duplicates.old_rows(unique, _published(job, before, None), settled, config.sources)
    return aged.drop(*cleaning.READ_ONLY)


def _without_forgotten(judged: DataFrame, requests: Sequence[Request]) -> DataFrame:
    """Reject the records that were asked to be forgotten, and keep the text of no rejected one of their users."""
    if not requests:
        return judged
    asked = forgetting.asked(F.col("user_id"), duplicates.event_id(), F.col("event_time"), requests)
    reason = F.when(F.col("reason").isNull() & asked, "forgotten").otherwise(F.col("reason"))
    # Of a line that could not be taken apart, the user may be anywhere in it.
    named = F.when(F.col("fault").isNotNull(), forgetting.within(F.col("raw"), requests)).otherwise(
        forgetting.of_users(F.col("user_id"), requests)
    )
    raw = F.when(~(asked | named), F.col("raw"))
    return judged.withColumns({"reason": reason, "raw": raw})


def _published(job: Job, before: date | None, since: datetime | None) -> DataFrame | None:
    """The published events in the columns of a record; of all nights, or those since an instant."""
    if before is None:
        return None
    events = job.warehouse.read(job.spark, "events", before)
    if since is not None:
        events = events.where(F.col("event_time") >= F.lit(since))
    sources = job.config.sources
    return duplicates.event_keys(duplicates.published(events, sources), sources)


def stage_quarantine(job: Job, night: Run, brought: Intake, reasons: Counter[str]) -> Counts:
    """Write what is rejected; returns the rows of each file. `reasons` counts what there is to write.

    Raises AuditError where it is more than alarms.quarantine_share bears.
    """
    if read := sum(brought.rows_read.values()):
        top = sorted(reasons.items(), key=lambda reason: (-reason[1], reason[0]))[:3]
        shown = ", ".join(f"{reason} {count:,}" for reason, count in top)
        rejected = reasons.total()
        because = f"{rejected:,} of {read:,} rows read were rejected: {shown}"
        job.alarms.figures("quarantine_share", {"quarantine_share": rejected / read}, because)
    if not reasons:  # another pass over all records would find nothing
        night.write_rows("quarantine", [])
        return {}
    night.write("quarantine", cleaning.quarantined(brought.judged), sort=["source", "source_file", "reason", "raw"])
    counted = night.read(job.spark, "quarantine").groupBy("source", "source_file").count().collect()
    return {(row["source"], row["source_file"]): row["count"] for row in counted}


def stage_intake(
    job: Job, night: Run, brought: Intake, accepted: Counts, rejected: Counts, duplicates: Counts
) -> dict[str, int]:
    """Write what became of every row of every file; returns the totals.

    The sides are counted apart: rows read by the sources, rejected ones in the table that holds them, accepted ones
    and duplicates where the walk wrote and dropped them. So the identity can fail where a step loses a record.

    Raises AuditError where it does.
    """
    known: Counts = {}
    if any(not source.dated or source.columns.event_id is not None for source in job.config.sources.values()):
        repeated = brought.judged.where(F.col("reason").isNull() & F.col("duplicate"))
        counted = repeated.groupBy("source", "source_file").count().collect()
        known = {(row["source"], row["source_file"]): row["count"] for row in counted}
    rows = [
        (*file, read, accepted.get(file, 0), rejected.get(file, 0), known.get(file, 0) + duplicates.get(file, 0))
        for file, read in brought.rows_read.items()
    ]
    return audit.intake_adds_up(night.write_rows("intake", sorted(rows)))
