"""Reading raw event logs as the config describes them: any format in, the columns of `schemas.RAW` out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from glob import glob
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife.config import CatalogueConfig, SourceConfig
from halflife.errors import InputMissingError

DATE = "{date}"
CORRUPT = "_corrupt_record"
# A time text that says its own zone: it ends in Z or in an offset.
ZONED_TEXT = r"(?i)(z|utc|[+-]\d{2}:?\d{2})$"


@dataclass(frozen=True)
class Intake:
    """The files of one source that a night reads."""

    name: str
    source: SourceConfig
    files: tuple[Path, ...]

    def fingerprint(self) -> list[tuple[str, int, int]]:
        """Name, size and modification time (ns) of every file: what decides whether a night must run again."""
        leaves = sorted(leaf for file in self.files for leaf in (file.rglob("*") if file.is_dir() else (file,)))
        stats = [(leaf, leaf.stat()) for leaf in leaves if leaf.is_file()]
        return [(str(leaf), stat.st_size, stat.st_mtime_ns) for leaf, stat in stats]


def find(name: str, source: SourceConfig, since: date | None, as_of: date) -> Intake:
    """The files of a source for the days [since, as_of); from the first day that there is where `since` is None.

    Raises InputMissingError that names the path, or the first day without a file.
    """
    if DATE not in source.path:
        files = sorted(Path(match) for match in glob(source.path))
        if not files:
            raise InputMissingError(f"sources.{name}.path: nothing matches {source.path}")
        return Intake(name, source, tuple(files))
    by_day = _by_day(source.path)
    days = {day for day in by_day if day < as_of and (since is None or day >= since)}
    if source.required:
        first = since or min(days, default=as_of - timedelta(days=1))
        wanted = [first] if since is None else [first + timedelta(days=n) for n in range((as_of - first).days)]
        for day in wanted:
            if day not in days:
                raise InputMissingError(
                    f"sources.{name}.path: no file for {day} at {source.path.replace(DATE, day.isoformat())}; "
                    f"deliver the day's log, or set sources.{name}.required=false if a day may have none"
                )
    return Intake(name, source, tuple(path for day in sorted(days) for path in by_day[day]))


def _by_day(template: str) -> dict[date, list[Path]]:
    """Existing paths of a `{date}` template by their day."""
    pattern = re.compile(r"(\d{4}-\d{2}-\d{2})".join(map(_glob_as_regex, template.split(DATE))))
    found: dict[date, list[Path]] = {}
    for match in sorted(glob(template.replace(DATE, "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"))):
        day = pattern.fullmatch(match)
        if day is not None:
            try:
                found.setdefault(date.fromisoformat(day[1]), []).append(Path(match))
            except ValueError as error:
                raise InputMissingError(f"{match}: {day[1]} is no day of the calendar; rename or remove it") from error
    return found


def _glob_as_regex(text: str) -> str:
    return re.escape(text).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")


def read(spark: SparkSession, intake: Intake) -> DataFrame:
    """The records of a source's files, one row each, in the columns of `schemas.RAW`.

    Raises InputMissingError that names a column which the config maps and the files lack.
    """
    source, columns = intake.source, intake.source.columns
    frame = _load(spark, intake)
    mapped = columns.model_dump(exclude_none=True)
    _require(frame, intake.name, source.path, mapped)

    def text(part: str) -> Column:
        return F.col(f"`{mapped[part]}`").cast("string") if part in mapped else F.lit(None).cast("string")

    own = [name for name in frame.columns if name != CORRUPT]
    corrupt = F.col(CORRUPT) if CORRUPT in frame.columns else F.lit(None).cast("string")
    return frame.select(
        F.lit(intake.name).alias("source"),
        F.col("_metadata.file_path").alias("source_file"),
        text("user").alias("user_id"),
        text("item").alias("item_id"),
        _time(F.col(f"`{columns.time}`"), frame.schema[columns.time].dataType, source.time_zone).alias("event_time"),
        text("time").alias("time_text"),
        (F.lit(source.event_type) if source.event_type else text("event_type")).alias("event_type"),
        text("event_id").alias("event_id"),
        text("session_id").alias("given_session_id"),
        text("dwell_seconds").try_cast("double").alias("dwell_seconds"),
        text("dwell_seconds").alias("dwell_text"),
        text("rating").try_cast("double").alias("rating"),
        text("rating").alias("rating_text"),
        corrupt.alias("malformed"),
        F.coalesce(corrupt, F.to_json(F.struct(*[F.col(f"`{name}`") for name in own]))).alias("raw"),
    )


def read_catalogue(spark: SparkSession, section: str, catalogue: CatalogueConfig) -> DataFrame:
    """Known ids with their title and category: columns id, title, category; rows without an id are left out.

    Raises InputMissingError that names the path or the column.
    """
    if not glob(catalogue.path):
        raise InputMissingError(f"{section}.path: nothing matches {catalogue.path}")
    frame = spark.read.parquet(catalogue.path)
    mapped = catalogue.model_dump(exclude_none=True, exclude={"path"})
    _require(frame, section, catalogue.path, mapped)

    def text(part: str) -> Column:
        column = F.col(f"`{mapped[part]}`") if part in mapped else F.lit(None)
        return column.cast("string").alias(part)

    return frame.select(text("id"), text("title"), text("category")).where(F.col("id").isNotNull())


def _load(spark: SparkSession, intake: Intake) -> DataFrame:
    source = intake.source
    paths = [str(path) for path in intake.files]
    if source.format == "parquet":
        return spark.read.parquet(*paths)
    reader = spark.read.option("mode", "PERMISSIVE").option("columnNameOfCorruptRecord", CORRUPT)
    if source.format == "json":
        fields = sorted(set(source.columns.model_dump(exclude_none=True).values()))
        return reader.schema(_texts([*fields, CORRUPT])).json(paths)
    reader = reader.option("header", True).option("sep", source.delimiter).option("escape", '"')
    return reader.schema(_texts([*reader.csv(paths).columns, CORRUPT])).csv(paths)


def _texts(names: Sequence[str]) -> T.StructType:
    return T.StructType([T.StructField(name, T.StringType()) for name in names])


def _require(frame: DataFrame, name: str, path: str, mapped: dict[str, str]) -> None:
    for part, column in mapped.items():
        if column not in frame.columns:
            have = ", ".join(column for column in frame.columns if column != CORRUPT)
            raise InputMissingError(f"{name}: no column {column!r} (for {part}) in {path}; it has: {have}")


def _time(column: Column, kind: T.DataType, zone: str) -> Column:
    """A time column of any type as an instant; null where it cannot be read as one."""
    if isinstance(kind, T.TimestampType):
        return column
    if isinstance(kind, T.TimestampNTZType | T.DateType):
        return F.to_utc_timestamp(column.cast("timestamp"), zone)
    if isinstance(kind, T.NumericType):
        return F.timestamp_micros((column.cast("double") * 1_000_000).cast("bigint"))
    instant = column.try_cast("timestamp")
    return F.when(F.trim(column).rlike(ZONED_TEXT), instant).otherwise(F.to_utc_timestamp(instant, zone))
