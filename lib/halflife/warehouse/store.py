"""Read and publish the tables under a root folder."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from halflife import crash
from halflife.digests import digest_of
from halflife.errors import InputMissingError, PublishConflictError
from halflife.escapes import redacted_tree
from halflife.warehouse import lease
from halflife.warehouse.code import code_version
from halflife.warehouse.layout import ERASED, ID, JOB_OF, MANIFEST, NIGHTLY, RUNS, STAGING, TABLES, schema_of
from halflife.warehouse.manifest import (
    describe,
    drop_others,
    make_durable,
    read_manifest,
    sync,
)
from halflife.warehouse.run import Run, Stored

if TYPE_CHECKING:  # answers are read from here without Spark
    from pyspark.sql import DataFrame, SparkSession


class Warehouse:
    """The published tables under one root folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()  # whatever links lead there: a run has one name

    @cached_property
    def id(self) -> str:
        """What tells this warehouse from others, wherever it is moved: drawn when it is first asked for."""
        file = self.root / ID
        with self.lock():
            if not file.exists():
                _draw(file)
        return file.read_text(encoding="utf-8").strip()

    @property
    def erased(self) -> str | None:
        """What is drawn anew whenever users have been removed from all nights; None where that has never been."""
        file = self.root / ERASED
        return file.read_text(encoding="utf-8").strip() if file.exists() else None

    def mark_erased(self) -> None:
        """Users have been removed: what began before may hold them, and is not published. The caller has the lock."""
        _draw(self.root / ERASED)

    def nights(self, job: str) -> list[date]:
        """Nights that a job has published, oldest first."""
        folder = self.root / "_nights" / job
        if not folder.is_dir():
            return []
        return sorted(date.fromisoformat(link.name.removeprefix("as_of=")) for link in folder.glob("as_of=*"))

    def manifest(self, job: str, as_of: date) -> dict[str, Any] | None:
        """Manifest of the published run of a night, or None where there is none.

        Raises UnreadableInputError where it is damaged.
        """
        link = self.night_link(job, as_of)
        return read_manifest(link / MANIFEST) if link.is_symlink() else None

    def path(self, table: str, as_of: date) -> Path:
        """Folder of a published table of a night; stays readable when the night is published again.

        Raises InputMissingError that says which job makes the table.
        """
        job = JOB_OF[table]
        folder = (self.night_link(job, as_of) / table).resolve()
        if not folder.is_dir():
            known = ", ".join(str(night) for night in self.nights(job)[-5:]) or "none"
            raise InputMissingError(
                f"{table}: no night {as_of} is published under {self.root} (last nights: {known}); "
                f"run jobs/{job}.py --as-of {as_of} first"
            )
        return folder

    def read(self, spark: SparkSession, table: str, as_of: date) -> DataFrame:
        """A published table as of a night.

        Of a table that holds each night's own rows, those of all nights up to `as_of`.
        """
        nights = [as_of]
        if table in NIGHTLY:
            having = (night for night in self.nights(JOB_OF[table]) if self.has(table, night))
            nights = [night for night in having if night <= as_of] or nights
        paths = [str(self.path(table, night)) for night in nights]
        return spark.read.schema(schema_of(table)).parquet(*paths)

    def has(self, table: str, as_of: date) -> bool:
        """Whether a night has a table: one from before there was such a table has not."""
        return (self.night_link(JOB_OF[table], as_of) / table).is_dir()

    def rows(self, table: str, as_of: date) -> list[dict[str, Any]]:
        """All rows of a small table of a night; none where the night was published before there was such a table."""
        manifest = self.manifest(JOB_OF[table], as_of)
        if manifest is not None and table not in manifest["tables"]:
            return []
        rows: list[dict[str, Any]] = pq.read_table(self.path(table, as_of)).to_pylist()
        return rows

    def read_files(self, spark: SparkSession, table: str, files: Sequence[Stored]) -> DataFrame:
        """The rows of some files of a table; an empty frame where there are none."""
        if not files:
            return spark.createDataFrame([], schema_of(table))
        return spark.read.schema(schema_of(table)).parquet(*(str(file.path) for file in files))

    def files(self, table: str, as_of: date) -> list[Stored]:
        """The files of a published table of a night, by name."""
        return self.run_of(table, as_of)[1]

    def run_of(self, table: str, as_of: date) -> tuple[str, list[Stored]]:
        """The id of a night's run and the files of a table, of one run whatever is published meanwhile."""
        folder = self.path(table, as_of)
        manifest = read_manifest(folder.parent / MANIFEST)
        return manifest["run_id"], [
            Stored(folder / entry["path"], entry) for entry in manifest["tables"][table]["files"]
        ]

    def changed_files(self, table: str, since: date, until: date) -> tuple[list[Stored], list[Stored]]:
        """The files that a table has on the night `until` and not on `since`, and those that it has no longer."""
        old, new = ({file.path.name: file for file in self.files(table, night)} for night in (since, until))
        added = [file for name, file in new.items() if name not in old]
        return added, [file for name, file in old.items() if name not in new]

    def last_night(self, job: str, before: date, inclusive: bool = False) -> date | None:
        """The last night earlier than `before` (or on it, if `inclusive`) that a job has published."""
        earlier = (night for night in self.nights(job) if night < before or (inclusive and night == before))
        return max(earlier, default=None)

    def published(self) -> list[tuple[str, date]]:
        """Every published night of every job."""
        return [(job, night) for job in TABLES for night in self.nights(job)]

    def drop_replaced(self) -> None:
        """Remove the runs that were published once and that no night points to any more."""
        with self.lock():
            current = self.current_runs()
            self.discard(run for run in self.runs() if run not in current)

    def discard(self, runs: Iterable[Path]) -> None:
        """Remove runs to which no night points, each in one step; the caller has the lock.

        Where this is killed, what is left of one lies with what dead runs have staged, and goes with that.
        """
        for run in runs:
            (self.root / STAGING).mkdir(exist_ok=True)
            dying = run.rename(self.root / STAGING / run.name)
            crash.point("discard: moved")
            shutil.rmtree(dying, ignore_errors=True)
            crash.point("discard: removed")

    def begin(self, job: str, as_of: date, inputs: Mapping[str, Any]) -> Run | None:
        """Open a run of a job for a night, or None where the night stands with the same inputs and code.

        `inputs` is all that decides the output, as JSON can hold it.
        """
        self.drop_dead()
        # What stands now is read before anything is made: whoever publishes after this moment is a conflict.
        expected = self.target(job, as_of)
        manifest = self.manifest(job, as_of)
        digest = digest_of({"inputs": inputs, "code": code_version(job)})
        if manifest is not None and manifest["inputs_digest"] == digest:
            return None
        return self.open(job, as_of, f"{job}-{as_of}-{digest[:8]}-{uuid.uuid4().hex[:8]}", inputs, expected)

    def open(self, job: str, as_of: date, run_id: str, inputs: Mapping[str, Any], expected: str | None) -> Run:
        """Open a run; `expected` is the night's `target` on which it builds."""
        directory = self.root / STAGING / run_id
        held = lease.Lease(directory, wait=True)  # its name is new: whoever has it only looks whether it is dead
        directory.mkdir()
        return Run(job, as_of, run_id, directory, inputs, expected, self.erased, held)

    @contextmanager
    def staged(self, run: Run) -> Iterator[Run]:
        """Remove what a run has staged when it ends without having published."""
        try:
            yield run
        finally:
            shutil.rmtree(run.directory, ignore_errors=True)
            run.lease.end()

    def drop_dead(self) -> None:
        """Remove what runs have staged whose processes died, and links that they had not yet given their name."""
        with self.lock():  # no link is being made
            for link in (
                link for job in TABLES for folder in (f"_nights/{job}", *TABLES[job]) for link in self._unnamed(folder)
            ):
                link.unlink()
        for directory in self.dead():
            with lease.taken_over(directory) as dead:
                if dead:
                    shutil.rmtree(directory, ignore_errors=True)

    def _unnamed(self, folder: str) -> list[Path]:
        return [path for path in self.root.glob(f"{folder}/.as_of=*") if path.is_symlink()]

    def dead(self) -> list[Path]:
        """The staging folders of runs whose processes died; of one that died after its folder was moved, its name."""
        staged = {lease.without_suffix(path) for path in self.root.glob(f"{STAGING}/*")}
        return sorted(path for path in staged if not lease.is_held(path))

    def publish(
        self,
        run: Run,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        seconds: Mapping[str, float] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Make a run's tables the ones that readers see, in one step; returns the run's manifest.

        `seconds` are those of the job's stages, for the manifest, which holds inputs and config without their secrets.

        Raises AuditError where a table is missing or unreadable, and PublishConflictError where another run
        published the night since this one began, or users were forgotten; nothing is changed then.
        """
        manifest = {
            "run_id": run.id,
            "job": run.job,
            "as_of": run.as_of.isoformat(),
            "inputs": redacted_tree(dict(run.inputs)),
            "inputs_digest": digest_of({"inputs": run.inputs, "code": code_version(run.job)}),
            "code": code_version(run.job),
            "config": redacted_tree(dict(config)),
            "metrics": dict(metrics),
            "seconds": dict(seconds),
            "published_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "tables": {
                table: describe(run.path(table), run.linked, run.returned.get(table)) for table in TABLES[run.job]
            },
        }
        for scratch in run.directory.glob("_*"):
            shutil.rmtree(scratch)
        self.make_current(run, manifest)
        return manifest

    def make_current(self, run: Run, manifest: Mapping[str, Any]) -> None:
        """The last steps of `publish`: a staged run and its manifest become what readers see, or nothing changes."""
        (run.directory / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str), encoding="utf-8")
        crash.point("publish: described")
        make_durable(run.directory, run.linked)
        crash.point("publish: durable")
        with self.lock():
            if self.target(run.job, run.as_of) != run.expected:
                raise PublishConflictError(
                    f"{run.job} {run.as_of}: another run published this night since this one began; "
                    "nothing was changed; run again to build on it"
                )
            if self.erased != run.erased:
                raise PublishConflictError(
                    f"{run.job} {run.as_of}: users were forgotten since this run began, and it may hold them; "
                    "nothing was changed; run again"
                )
            home = self.root / RUNS / run.id
            home.parent.mkdir(exist_ok=True)
            run.directory.rename(home)
            # A task that nobody waits for may have opened a file until now; from here on its path leads nowhere.
            drop_others(home, manifest["tables"])
            sync(home.parent)
            sync(self.root)
            crash.point("publish: moved")
            self._link_tables(run)
            crash.point("publish: tables linked")
            self.switch(run.job, run.as_of, home)
        crash.point("publish: switched")
        run.lease.end()

    def night_link(self, job: str, as_of: date) -> Path:
        """The link that says which run a night is."""
        return self.root / "_nights" / job / f"as_of={as_of.isoformat()}"

    def switch(self, job: str, as_of: date, run: Path) -> None:
        """Make a run in `_runs` the one that a night's readers see. The caller has the lock."""
        _switch(self.night_link(job, as_of), run)

    def runs(self) -> list[Path]:
        """The folders of all runs that were published once."""
        return sorted(path for path in self.root.glob(f"{RUNS}/*") if path.is_dir())

    def current_runs(self) -> set[Path]:
        """The folders of the runs that readers see."""
        return {self.night_link(job, night).resolve() for job, night in self.published()}

    def target(self, job: str, as_of: date) -> str | None:
        """What a night's link says now; None where there is none."""
        link = self.night_link(job, as_of)
        return str(link.readlink()) if link.is_symlink() else None

    def _link_tables(self, run: Run) -> None:
        """Links from the tables' own folders through the night's link: dangling until that one is switched."""
        for table in TABLES[run.job]:
            link = self.root / table / f"as_of={run.as_of.isoformat()}"
            if not link.is_symlink():
                _switch(link, self.night_link(run.job, run.as_of) / table)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One publisher at a time: compare and switch belong together."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "_lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _draw(file: Path) -> None:
    """Put a new id into a file, whole or not at all."""
    fresh = file.with_suffix(".fresh")
    fresh.write_text(f"{uuid.uuid4().hex}\n", encoding="utf-8")
    sync(fresh)
    fresh.replace(file)


def _switch(link: Path, target: Path) -> None:
    """Point a link at a target, atomically; the link is relative, so that a warehouse can be moved."""
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.{uuid.uuid4().hex}")
    fresh.symlink_to(os.path.relpath(target, link.parent))
    crash.point(f"publish: link of {link.parent.name} made")
    fresh.replace(link)
    sync(link.parent)
