"""The first half of the score job: what changed since the last night, and the states of users and pairs brought up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import audit
from halflife.command import Job
from halflife.histories import walk
from halflife.memory import Pace
from halflife.model.artifact import Model
from halflife.scoring import bands, encode, update
from halflife.warehouse import Run, Stored, digests, schema_of

# To be raised where the code makes other states from the same events: those that are there are then made anew.
STATES = 2

# What of the config is in the state of a pair, and in how states lie.
IN_STATES = ("revival_retained_share", "revival_silence_days", "faded_below", "users_per_file")

# Bands are not alike: so many tasks for each core.
TASKS_PER_CORE = 4


@dataclass(frozen=True)
class Changes:
    """Events that are new or otherwise than before, and events that are gone or otherwise now (update.COMPARED)."""

    added: DataFrame
    removed: DataFrame

    @property
    def rows(self) -> DataFrame:
        """All of them, with which were `removed`."""
        marked = self.added.withColumn("removed", F.lit(False))
        return marked.unionByName(self.removed.withColumn("removed", F.lit(True)))


def kept_night(job: Job, before: date | None, model: Model) -> date | None:
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


def changes(job: Job, kept: date | None) -> Changes:
    """What the events are tonight that they were not on the night whose states tonight's build on."""
    store, spark = job.warehouse, job.spark
    if kept is None:
        everything = store.read(spark, "events", job.as_of).select(*update.COMPARED)
        return Changes(everything, everything.limit(0))
    new, old = store.changed_files("events", since=kept, until=job.as_of)
    added, removed = (store.read_files(spark, "events", files).select(*update.COMPARED) for files in (new, old))
    if not old:
        return Changes(added, removed)
    # Days that late events reached were written again: most of their rows are what they were.
    return Changes(added.exceptAll(removed).cache(), removed.exceptAll(added).cache())


def stage_user_states(
    job: Job, night: Run, kept: date | None, changed: Changes, model: Model, directory: Path
) -> tuple[int, int]:
    """Encode exactly the users with new events, carry over the others; returns how many of each."""
    store = job.warehouse
    files = store.files("sequences", job.as_of)
    if kept is None:
        # As many tasks as cores: each loads the model once, and a user costs the same wherever it lies.
        sequences = store.read(job.spark, "sequences", job.as_of).repartition(job.cores, "user_index")
        states = encode.user_states(sequences, directory)
    else:
        states = encode.active_states(changed.rows, _sequences(job, files), job.cores, directory)
    readouts_bytes = 4 * len(model.half_lives_days) * model.vector_size
    written = _write(job, night, kept, "user_states", states, (), update.user_states, readouts_bytes, "readouts")
    # Counted by the tasks that wrote them: what came out of the network, not what should have gone in.
    users, everyone = sum(row["counted"] for row in written), night.rows("user_states")
    audit.same_count("user_states", everyone, sum(file.described["rows"] for file in files))
    return users, everyone - users


def _sequences(job: Job, files: Sequence[Stored]) -> encode.Sequences:
    """Where tonight's sequences are; `files` has those of everyone."""
    store = job.warehouse
    manifest = store.manifest("sessionize", job.as_of)
    assert manifest is not None  # its files are there
    active = store.files(walk.ACTIVE, job.as_of) if store.has(walk.ACTIVE, job.as_of) else []
    everyone = {walk.bucket_of(file.part): file.path for file in files}
    assert len(everyone) == len(files)  # a bucket's second file would be passed over
    users_per_file = manifest["config"]["sessionize"]["users_per_file"]
    return encode.Sequences([file.path for file in active], everyone, users_per_file)


def stage_memory(job: Job, night: Run, kept: date | None, changed: Changes, model: Model, directory: Path) -> None:
    """Bring the memory of the pairs that tonight touches up to date; the other pairs stay as they are."""
    config, store = job.config.score, job.warehouse
    pace = Pace(model.half_lives_days, model.horizon_days, config.revival_retained_share, config.revival_silence_days)
    rules = update.Rules(directory, pace, config.faded_below)
    files = store.files("events", job.as_of)
    change = partial(update.memory, rules=rules, events=[file.path for file in files])
    channels_bytes = 3 * 8 * len(model.half_lives_days)
    _write(job, night, kept, "memory", changed.rows, update.ORDER, change, channels_bytes)
    counted = night.read(job.spark, "memory").agg(F.coalesce(F.sum("event_count"), F.lit(0))).first()
    assert counted is not None  # an aggregate without groups has one row
    audit.same_count("the events of memory", counted[0], sum(file.described["rows"] for file in files))


def _write(
    job: Job,
    night: Run,
    kept: date | None,
    table: str,
    changed: DataFrame,
    order: Sequence[str],
    change: bands.Change,
    lists_bytes: int,
    counted: str = "user_index",
) -> list[Row]:
    """Write the bands of a table that are changed, returned in bands.LISTING, and keep the others."""
    stored = [] if kept is None else job.warehouse.files(table, kept)
    old, folder = {int(file.part): file.path for file in stored}, night.path(table)
    folder.mkdir()
    schema = to_arrow_schema(schema_of(table))
    laid = bands.Bands(job.config.score.users_per_file, old, folder, schema, lists_bytes, counted)
    users = sum(file.described["rows"] for file in job.warehouse.files("users", job.as_of))
    tasks = max(1, min(math.ceil(users / laid.users), TASKS_PER_CORE * job.cores))
    written = bands.write(changed, order, laid, change, tasks)
    night.only(table, {row["file"] for row in written})
    night.keep(table, [file for file in stored if int(file.part) not in {row["band"] for row in written}])
    return written
