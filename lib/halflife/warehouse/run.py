"""One run of a job: the folder in which it stages its tables."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from halflife.warehouse.layout import ROW_GROUP_BYTES, TABLES, schema_of
from halflife.warehouse.lease import Lease
from halflife.warehouse.manifest import sync

if TYPE_CHECKING:  # answers are read from here without Spark
    from pyspark.sql import Column, DataFrame, SparkSession


@dataclass
class Run:
    """One run of a job for a night: the folder it writes to, and what it read."""

    job: str
    as_of: date
    id: str
    directory: Path
    inputs: Mapping[str, Any]
    expected: str | None = field(repr=False)  # what the night's link pointed to when the run began
    erased: str | None = field(repr=False)  # what Warehouse.erased was then
    lease: Lease = field(repr=False)  # says that its process lives: the folder of one that died may be removed
    linked: dict[Path, dict[str, Any]] = field(default_factory=dict, repr=False)  # files kept, as they were described
    returned: dict[str, set[str]] = field(default_factory=dict, repr=False)  # of a table whose tasks name their files

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
        home = self.path(table) / f"{uuid.uuid4().hex}.parquet"
        home.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(arrays, schema), home, compression="zstd")
        self._names(table, home)
        return self.path(table)

    def keep(self, table: str, files: Iterable[Stored]) -> None:
        """Stage published files as they are, without writing them again."""
        self.path(table).mkdir(exist_ok=True)
        for file in files:
            home = self.path(table) / file.path.name
            share(file.path, home)
            self.linked[home] = file.described

    def add(self, table: str, frame: DataFrame) -> None:
        """Stage rows beside the files that are there, none of which tasks have named (`only`)."""
        frame.select(*schema_of(table).names).write.mode("append").parquet(str(self.path(table)))

    def add_parts(self, table: str, frame: DataFrame, part: Column) -> None:
        """Stage rows beside the files that are there, in files that are called by the `part` of their rows."""
        written = self.scratch(f"{table}-parts")
        frame.select(*schema_of(table).names, part.alias("part")).write.partitionBy("part").parquet(str(written))
        self.path(table).mkdir(exist_ok=True)
        for file in written.glob("part=*/*.parquet"):
            name = file.parent.name.removeprefix("part=")
            home = self.path(table) / f"{name}-{uuid.uuid4().hex}.parquet"
            file.rename(home)
            self._names(table, home)

    def _names(self, table: str, file: Path) -> None:
        """Count a file of the driver's among those that tasks have returned, where they have (`only`)."""
        if table in self.returned:
            self.returned[table].add(file.name)

    def only(self, table: str, names: Collection[str]) -> None:
        """Remove all files of a table but those named, which its tasks have returned, and those kept.

        A task that is retried, or run twice by speculation, leaves others; one that nobody waits for any more may go on
        and open another file even now: it is not described, and goes when the run is published.
        """
        self.returned[table] = set(names)
        for file in self.path(table).iterdir():
            if file.name not in names and file not in self.linked:
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


def share(file: Path, home: Path) -> None:
    """Give a published file another name, or a durable copy of that name where the file system has no hard links."""
    try:
        os.link(file, home)
    except OSError:
        shutil.copyfile(file, home)
        sync(home)
