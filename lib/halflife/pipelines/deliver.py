"""Published nights to the analysts' lake."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date, timedelta

from halflife.command import Job
from halflife.config import DeliverConfig
from halflife.delivery.night import Night, deliver, differs
from halflife.delivery.table import LakeTable, lakes
from halflife.errors import AuditError, ConfigError, InputMissingError, PublishConflictError, UnreadableInputError
from halflife.warehouse import Warehouse


def run(job: Job) -> None:
    """Deliver the published night `job.as_of`, and again each night that the lake holds otherwise than the warehouse.

    So a night that was run again, rolled back or rid of a user follows by itself. Each table is committed by itself:
    where one fails, those before it are delivered, and the run says so. Nights whose manifest is damaged are left out
    and fail the run when all others are delivered. No Spark is needed.
    """
    done: list[str] = []
    damaged: list[str] = []
    left: list[str] = []
    try:
        for table, lake in lakes(job.config.deliver).items():
            with job.stage(f"deliver {table}"):
                done.extend(deliver_table(job, table, lake, damaged, left))
        if damaged:
            raise InputMissingError(f"{'; '.join(dict.fromkeys(damaged))}; all other nights are delivered")
    except Exception:
        if done:
            job.say(f"delivered {', '.join(done)}, before it failed", "delivered")
        raise
    rest = f"; left, for the warehouse has them no longer: {', '.join(left)}" if left else ""
    if done:
        job.delivered(f"delivered {', '.join(done)}{rest}")
    else:
        job.unchanged(f"nothing to do: the lake holds what the warehouse does{rest}")


def deliver_table(job: Job, table: str, lake: LakeTable, damaged: list[str], left: list[str]) -> Iterator[str]:
    """Deliver the nights of a table that the lake holds otherwise; yields what was brought, night by night.

    Adds what is wrong with damaged manifests to `damaged`, and to `left` what the warehouse has no longer.
    """
    lake.must_be_of(job.warehouse.id)
    kept_from = first_kept(job.config.deliver, {*lake.files, job.as_of})
    if job.as_of < kept_from:
        raise ConfigError(f"--as-of {job.as_of}: deliver.keep_days keeps no night before {kept_from} in {lake.address}")
    gone = []
    for night in [job.as_of, *sorted(lake.files.keys() - {job.as_of})]:
        if night < kept_from:
            continue
        try:
            if not differs(lake, published(job.warehouse, table, night), kept_from):
                continue
            lake.refresh()  # it may have been delivered meanwhile
            found = published(job.warehouse, table, night)
        except UnreadableInputError as error:
            damaged.append(str(error))
            continue
        except InputMissingError:
            if night == job.as_of:
                raise
            gone.append(night)
            continue
        try:
            copied = deliver(lake, found, kept_from, job.config.deliver.replaced_days)
        except AuditError as error:
            if published(job.warehouse, table, night) == found:
                raise
            raise PublishConflictError(f"{table} {night}: was changed while it was delivered; run again") from error
        if copied is not None:
            rows, size = (sum(file.described[what] for file in copied) for what in ("rows", "bytes"))
            yield f"{table} {night} {rows:,} rows {size / 1e6:,.1f} MB"
    if gone:
        left.append(f"{len(gone)} nights of {table}, {gone[0]} to {gone[-1]}")


def first_kept(config: DeliverConfig, known: Collection[date]) -> date:
    """The oldest night that the lake keeps, by the newest that is known: no clock decides."""
    return max(known) - timedelta(days=config.keep_days) if config.keep_days else date.min


def published(store: Warehouse, table: str, as_of: date) -> Night:
    """A table of a published night. Raises InputMissingError where it is not published."""
    return Night(table, as_of, *store.run_of(table, as_of), store.id)
