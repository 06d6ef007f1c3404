"""The only place that touches stored tables: read, stage, publish.

A job writes its tables into a folder of its run, has them audited there, and publishes them all at once: the
night's link is replaced in one rename (write-audit-publish). Layout under the warehouse root:

    scores/as_of=2017-12-01         -> ../_nights/score/as_of=2017-12-01/scores     what readers open
    _nights/score/as_of=2017-12-01  -> ../../_runs/<run id>                         the one link that is switched
    _runs/<run id>/                    scores/*.parquet, manifest.json; never changed once published
    _staging/<run id>/                 a run that is not published

A table's link is static and goes through the night's link, so all the tables of a job change together, and a
reader that knows nothing of halflife sees the old night or the new one.

A night costs what it brought: files that it does not change are not written again but linked (hard links), so that the
folder of a night is the whole table all the same. Where a file system has no hard links they are copied.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

import halflife
from halflife.digests import digest_of, digest_of_file
from halflife.errors import AuditError, InputMissingError, PublishConflictError

if TYPE_CHECKING:  # answers are read from here without Spark
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql import types as T

# The tables of each job, published together.
TABLES: Mapping[str, tuple[str, ...]] = {
    "sessionize": ("events", "quarantine", "intake", "sessions", "users", "items", "sequences"),
    "train": ("models",),
    "score": ("memory", "user_states", "scores", "recommendations", "interest_by_category", "category_trend"),
    "evaluate": ("metrics", "evaluation"),
}
# Tables of which each night holds that night's rows alone; of every other table a night holds the whole.
NIGHTLY = ("quarantine", "intake")
JOB_OF: Mapping[str, str] = {table: job for job, tables in TABLES.items() for table in tables}

MANIFEST = "manifest.json"

# A reader skips row groups by their statistics: small enough that one user's rows are read in a millisecond.
ROW_GROUP_BYTES = 1024 * 1024


def digests(manifest: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What identifies the content of a published run, whatever its files are called: their digests by table."""
    if manifest is None:
        return None
    return {
        name: sorted(file.get("published_sha256", file["sha256"]) for file in table["files"])
        for name, table in manifest["tables"].items()
    }


@cache
def code_version() -> str:
    """Version of the code that runs: the release and a digest of the library's own source files."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return f"{halflife.__version__}+{digest_of([digest_of_file(source) for source in sources])[:12]}"


@dataclass
class Run:
    """One run of a job for a night: the folder it writes to, and what it read."""

    job: str
    as_of: date
    id: str
    directory: Path
    inputs: Mapping[str, Any]
    expected: str | None = field(repr=False)  # what the night's link pointed to when the run began
    linked: dict[Path, dict[str, Any]] = field(default_factory=dict, repr=False)  # files kept, as they were described

    def path(self, table: str) -> Path:
        """Folder of one of the job's tables in this run."""
        if table not in TABLES[self.job]:
            raise ValueError(f"{table} is not a table of {self.job}")
        return self.directory / table

    def scratch(self, name: str) -> Path:
        """A folder for files that are not published: it is gone when the run ends."""
        return self.directory / f"_{name}"

    def write(self, table: str, frame: DataFrame, sort: Sequence[str]) -> Path:
        """Stage a table: the rows of one `sort[0]` in one file, each file sorted by `sort`; returns its folder.

        Hash rather than range partitions: a range costs a second run of the whole plan, to sample it.
        """
        ordered = frame.select(*schema_of(table).names).repartition(sort[0]).sortWithinPartitions(*sort)
        ordered.write.option("parquet.block.size", ROW_GROUP_BYTES).parquet(str(self.path(table)))
        return self.path(table)

    def write_rows(self, table: str, rows: Sequence[tuple[Any, ...]]) -> Path:
        """Stage a table of which the driver has all rows, be there none; returns its folder."""
        from pyspark.sql.pandas.types import to_arrow_schema

        schema = to_arrow_schema(schema_of(table))
        columns = zip(*rows, strict=True) if rows else [()] * len(schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        self.path(table).mkdir()
        pq.write_table(pa.table(arrays, schema), self.path(table) / f"{uuid.uuid4().hex}.parquet", compression="zstd")
        return self.path(table)

    def keep(self, table: str, files: Iterable[Stored]) -> None:
        """Stage published files as they are, without writing them again."""
        self.path(table).mkdir(exist_ok=True)
        for file in files:
            home = self.path(table) / file.path.name
            try:
                os.link(file.path, home)
            except OSError:  # no hard links here
                shutil.copyfile(file.path, home)
            self.linked[home] = file.described

    def add(self, table: str, frame: DataFrame) -> None:
        """Stage rows beside the files that are there."""
        frame.select(*schema_of(table).names).write.mode("append").parquet(str(self.path(table)))

    def add_parts(self, table: str, frame: DataFrame, part: Column) -> None:
        """Stage rows beside the files that are there, in files that are called by the `part` of their rows."""
        written = self.scratch(f"{table}-parts")
        frame.select(*schema_of(table).names, part.alias("part")).write.partitionBy("part").parquet(str(written))
        self.path(table).mkdir(exist_ok=True)
        for file in written.glob("part=*/*.parquet"):
            name = file.parent.name.removeprefix("part=")
            file.rename(self.path(table) / f"{name}-{uuid.uuid4().hex}.parquet")

    def only(self, table: str, names: Collection[str]) -> None:
        """Remove all files of a table but those named."""
        for file in self.path(table).iterdir():
            if file.name not in names:
                file.unlink()

    def rows(self, table: str) -> int:
        """How many rows this run has staged of a table."""
        return sum(int(pq.read_metadata(file).num_rows) for file in self.path(table).glob("*.parquet"))

    def read(self, spark: SparkSession, table: str) -> DataFrame:
        """A table as this run has staged it."""
        return spark.read.schema(schema_of(table)).parquet(str(self.path(table)))


@dataclass(frozen=True)
class Stored:
    """One published file of a table, and what the manifest says of it."""

    path: Path
    described: dict[str, Any]

    @property
    def part(self) -> str:
        """Which part of the table it holds: its name up to the last hyphen."""
        return self.path.name.rpartition("-")[0]


def schema_of(table: str) -> T.StructType:
    """The schema constant of a table."""
    from halflife import schemas

    schema: T.StructType = getattr(schemas, table.upper())
    return schema


class Warehouse:
    """The published tables under one root folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()

    def nights(self, job: str) -> list[date]:
        """Nights that a job has published, oldest first."""
        folder = self.root / "_nights" / job
        if not folder.is_dir():
            return []
        return sorted(date.fromisoformat(link.name.removeprefix("as_of=")) for link in folder.glob("as_of=*"))

    def manifest(self, job: str, as_of: date) -> dict[str, Any] | None:
        """Manifest of the published run of a night, or None where there is none."""
        try:
            text = (self._night(job, as_of) / MANIFEST).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        manifest: dict[str, Any] = json.loads(text)
        return manifest

    def path(self, table: str, as_of: date) -> Path:
        """Folder of a published table of a night; stays readable when the night is published again.

        Raises InputMissingError that says which job makes the table.
        """
        job = JOB_OF[table]
        folder = (self._night(job, as_of) / table).resolve()
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
            nights = [night for night in self.nights(JOB_OF[table]) if night <= as_of] or nights
        paths = [str(self.path(table, night)) for night in nights]
        return spark.read.schema(schema_of(table)).parquet(*paths)

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
        folder, manifest = self.path(table, as_of), self.manifest(JOB_OF[table], as_of)
        assert manifest is not None  # its folder is there
        return [Stored(folder / entry["path"], entry) for entry in manifest["tables"][table]["files"]]

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
        with self._lock():
            current = {self._night(job, night).resolve() for job, night in self.published()}
            for run in self.root.glob("_runs/*"):
                if run.resolve() not in current:
                    shutil.rmtree(run)

    def amend(self, job: str, as_of: date, rewrite: Callable[[str, Path, Path], bool]) -> None:
        """Replace files of a published night: privacy alone is a reason to.

        `rewrite(table, file, fresh)` writes a file anew to the path `fresh`, or returns False. Each file is replaced
        in one step, and the manifest at last; it keeps the digest that the file was published with, by which the
        night is known.
        """
        manifest, run = self.manifest(job, as_of), self._night(job, as_of).resolve()
        assert manifest is not None  # the caller has the night from `published`
        for table, content in manifest["tables"].items():
            for place, entry in enumerate(content["files"]):
                file = run / table / entry["path"]
                fresh = file.with_name(f".{uuid.uuid4().hex}{file.suffix}")
                if rewrite(table, file, fresh):
                    fresh.replace(file)
                described = _describe_file(file, run / table)
                if described["sha256"] != entry["sha256"]:
                    published = entry.get("published_sha256", entry["sha256"])
                    content["files"][place] = {**described, "published_sha256": published}
            content["rows"] = sum(entry["rows"] for entry in content["files"])
            content["bytes"] = sum(entry["bytes"] for entry in content["files"])
        fresh = run / f".{MANIFEST}"
        fresh.write_text(json.dumps(manifest, indent=1, default=str), encoding="utf-8")
        fresh.replace(run / MANIFEST)

    def begin(self, job: str, as_of: date, inputs: Mapping[str, Any]) -> Run | None:
        """Open a run of a job for a night, or None where the night stands with the same inputs and code.

        `inputs` is all that decides the output, as JSON can hold it.
        """
        # What stands now is read before anything else: whoever publishes after this moment is a conflict.
        expected = self._target(job, as_of)
        manifest = self.manifest(job, as_of)
        digest = digest_of({"inputs": inputs, "code": code_version()})
        if manifest is not None and manifest["inputs_digest"] == digest:
            return None
        run_id = f"{job}-{as_of}-{digest[:8]}-{uuid.uuid4().hex[:8]}"
        directory = self.root / "_staging" / run_id
        directory.mkdir(parents=True)
        return Run(job, as_of, run_id, directory, inputs, expected)

    @contextmanager
    def staged(self, run: Run) -> Iterator[Run]:
        """Remove what a run has staged when it ends without having published."""
        try:
            yield run
        finally:
            shutil.rmtree(run.directory, ignore_errors=True)

    def publish(self, run: Run, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Make a run's tables the ones that readers see, in one step; returns the run's manifest.

        Raises AuditError where a table is missing or unreadable, and PublishConflictError where another run
        published the night since this one began; in both cases nothing is changed.
        """
        manifest = {
            "run_id": run.id,
            "job": run.job,
            "as_of": run.as_of.isoformat(),
            "inputs": dict(run.inputs),
            "inputs_digest": digest_of({"inputs": run.inputs, "code": code_version()}),
            "code": code_version(),
            "config": dict(config),
            "metrics": dict(metrics),
            "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "tables": {table: _describe(run.path(table), run.linked) for table in TABLES[run.job]},
        }
        (run.directory / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str), encoding="utf-8")
        with self._lock():
            if self._target(run.job, run.as_of) != run.expected:
                raise PublishConflictError(
                    f"{run.job} {run.as_of}: another run published this night since this one began; "
                    "nothing was changed; run again to build on it"
                )
            for scratch in run.directory.glob("_*"):
                shutil.rmtree(scratch)
            home = self.root / "_runs" / run.id
            home.parent.mkdir(exist_ok=True)
            run.directory.rename(home)
            self._link_tables(run)
            _switch(self._night(run.job, run.as_of), home)
        return manifest

    def _night(self, job: str, as_of: date) -> Path:
        return self.root / "_nights" / job / f"as_of={as_of.isoformat()}"

    def _target(self, job: str, as_of: date) -> str | None:
        link = self._night(job, as_of)
        return str(link.readlink()) if link.is_symlink() else None

    def _link_tables(self, run: Run) -> None:
        """Links from the tables' own folders through the night's link: dangling until that one is switched."""
        for table in TABLES[run.job]:
            link = self.root / table / f"as_of={run.as_of.isoformat()}"
            if not link.is_symlink():
                _switch(link, self._night(run.job, run.as_of) / table)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One publisher at a time: compare and switch belong together."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "_lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _switch(link: Path, target: Path) -> None:
    """Point a link at a target, atomically; the link is relative, so that a warehouse can be moved."""
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.{os.getpid()}.{time.monotonic_ns()}")
    fresh.symlink_to(os.path.relpath(target, link.parent))
    fresh.replace(link)


def _describe(folder: Path, known: Mapping[Path, dict[str, Any]]) -> dict[str, Any]:
    """Rows, bytes and digest of each file of a staged table. Raises AuditError where there is none."""
    hidden = (".", "_")  # Spark's checksums and markers
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(hidden))
    if not files:
        raise AuditError(f"{folder.name}: the run wrote no file of this table; nothing was published")
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a digest lets the others run
        described = list(pool.map(lambda path: known.get(path) or _describe_file(path, folder), files))
    return {
        "rows": sum(entry["rows"] for entry in described),
        "bytes": sum(entry["bytes"] for entry in described),
        "files": described,
    }


def _describe_file(path: Path, folder: Path) -> dict[str, Any]:
    try:
        rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else 0
    except (OSError, ValueError) as error:
        raise AuditError(f"{folder.name}/{path.name}: not Parquet; nothing was published") from error
    return {
        "path": str(path.relative_to(folder)),
        "rows": rows,
        "bytes": path.stat().st_size,
        "sha256": digest_of_file(path),
    }
