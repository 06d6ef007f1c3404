"""The night's raw logs into events, sessions, indexes and sequences."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from halflife import forgetting, sources
from halflife.command import Job
from halflife.config import Config
from halflife.errors import ConfigError, InputMissingError
from halflife.forgetting import Request
from halflife.pipelines import history, ids, intake
from halflife.warehouse import Run, Warehouse, digests

READS = ("sources", "event_types", "users", "items", "sessionize", "strength")
KEY_ID = "pseudonyms"  # of the key that the users' pseudonyms are made with


def run(job: Job) -> None:
    """Merge the logs of the days since the last night into its state, and publish the night `job.as_of`."""
    store, config = job.warehouse, job.config
    before = store.last_night("sessionize", job.as_of)
    _same_types(job, before)
    key_id = None if job.pseudonyms is None else job.pseudonyms.key_id
    _same_key(job, key_id)
    intakes = find(store, config, job.as_of)
    catalogues = [catalogue.path for catalogue in (config.users, config.items) if catalogue is not None]
    asked = forgetting.requests(store)
    inputs = {
        "config": config.model_dump(mode="json", include=set(READS)),
        "before": before and digests(store.manifest("sessionize", before)),
        "files": [intake.fingerprint() for intake in intakes],
        "catalogues": [sources.fingerprint(sources.matching(path)) for path in catalogues],
        "forgotten": sorted(path.name for path in asked),
        **({} if key_id is None else {KEY_ID: key_id}),
    }
    job.publish(inputs, lambda night: _stage(job, night, before, intakes, list(asked.values())))
    forgetting.erase(store, job.as_of, asked)


def find(store: Warehouse, config: Config, as_of: date) -> list[sources.Intake]:
    """The files that a night reads: of the days since the last night before it.

    Raises InputMissingError where a file is missing that has to be there.
    """
    before = store.last_night("sessionize", as_of)
    return [sources.find(name, source, before, as_of) for name, source in config.sources.items()]


def ready(store: Warehouse, config: Config, as_of: date, settled_minutes: float = 0) -> int:
    """How many log files there are for a night.

    Raises InputMissingError where the night would end for want of one or of a catalogue, where one was changed in the
    last `settled_minutes` (of a day's folder the first file may be there and others on their way), and where a first
    night lacks the day before it: the job takes a first night's log however long ago it ends, as a history may be all
    there is, but who waits for a night waits for its last day.
    """
    files = [file for intake in find(store, config, as_of) for file in intake.files]
    if store.last_night("sessionize", as_of) is None:
        for name, source in config.sources.items():
            sources.find(name, source, as_of - timedelta(days=1), as_of)
    if not files and not config.sessionize.allow_empty_night:
        raise InputMissingError(f"no file for the night of {as_of} in any source")
    catalogues = {"users.path": config.users, "items.path": config.items}
    known = [file for key, each in catalogues.items() if each is not None for file in sources.existing(key, each.path)]
    for file in (*files, *known):
        # Not the time of its content, which who delivers may keep as it was elsewhere.
        if time.time() - file.stat().st_ctime < 60 * settled_minutes:
            raise InputMissingError(f"{file}: changed in the last {settled_minutes:g} minutes, it may still be growing")
    return len(files)


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


def _same_key(job: Job, key_id: str | None) -> None:
    """Raises ConfigError where the published users have other pseudonyms: all their histories would begin anew."""
    last = max(job.warehouse.nights("sessionize"), default=None)
    manifest = None if last is None else job.warehouse.manifest("sessionize", last)
    if manifest is None or (known := manifest["inputs"].get(KEY_ID)) == key_id:
        return
    have = "users by their ids" if known is None else f"pseudonyms of the key {known}"
    now = "there is none now" if key_id is None else f"that in pseudonyms.key_file is {key_id}"
    raise ConfigError(
        f"pseudonyms: the published nights have {have}, and {now}; go on as before, or name another warehouse and "
        "run all nights there"
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
        census = ids.census(job, brought.judged, before)
        rejected = intake.stage_quarantine(job, night, brought, census.reasons)
    with job.stage("index"):
        ids.stage_users(job, night, before, census, requests)
        ids.stage_items(job, night, before, census)
    with job.stage("walk"):
        span = history.window_of(job, before, census.first_day, requests)
        walked = history.stage(job, night, span, brought, requests)
    totals = intake.stage_intake(job, night, brought, walked.accepted, rejected, walked.duplicates)
    if before is not None:  # how many days the first night brings is not known
        job.alarms.figures("rows_per_day", {"rows_per_day": totals["accepted"] / (job.as_of - before).days})
    return {**totals, "active_users": census.active_users, "settled_before": span.settled_before.isoformat()}
