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
# A time as text begins with a date (a time of day alone would mean today); one that says its own zone ends in Z, in an
# offset behind the time of day, or in the name of a zone.
DATED_TEXT = r"^\s*\d{4}-\d{1,2}-\d{1,2}"
ZONED_TEXT = r"(?i)(z|utc|gmt|:\d{2}(\.\d+)?\s*[+-]\d{2}(:?\d{2})?|[a-z]+/[a-z_]+)\s*$"


@dataclass(frozen=True)
class Intake:
    """The files of one source that a night reads."""

    name: str
    source: SourceConfig
    files: tuple[Path, ...]

    def fingerprint(self) -> list[tuple[str, int, int]]:
        """What decides whether the night must run again."""
        return fingerprint(self.files)


def fingerprint(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Name, size and modification time (ns) of every file, also of those in folders."""
    leaves = sorted(leaf for file in files for leaf in (file.rglob("*") if file.is_dir() else (file,)))
    stats = [(leaf, leaf.stat()) for leaf in leaves if leaf.is_file()]
    return [(str(leaf), stat.st_size, stat.st_mtime_ns) for leaf, stat in stats]


def matching(pattern: str) -> list[Path]:
    """The files and folders that a path or glob names, in order."""
    return sorted(Path(match) for match in glob(pattern))


def find(name: str, source: SourceConfig, since: date | None, as_of: date) -> Intake:
    """The files of a source for the days [since, as_of); from the first day that there is where `since` is None.

    Raises InputMissingError that names the path, or the first day without a file.
    """
    if DATE not in source.path:
        files = matching(source.path)
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
        _unless_blank(text("event_id")).alias("event_id"),
        _unless_blank(text("session_id")).alias("given_session_id"),
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
    if not matching(catalogue.path):
        raise InputMissingError(f"{section}.path: nothing matches {catalogue.path}")
    frame = spark.read.parquet(catalogue.path)
    mapped = catalogue.model_dump(exclude_none=True, exclude={"path"})
    _require(frame, section, catalogue.path, mapped)

    def text(part: str) -> Column:
        column = F.col(f"`{mapped[part]}`") if part in mapped else F.lit(None)
        return column.cast("string").alias(part)

    listed = frame.select(text("id"), text("title"), text("category"))
    return listed.where(_unless_blank(F.col("id")).isNotNull())


def _load(spark: SparkSession, intake: Intake) -> DataFrame:
    source = intake.source
    paths = [str(path) for path in intake.files]
    if source.format == "parquet":
        return spark.read.parquet(*paths)
    reader = spark.read.option("mode", "PERMISSIVE").option("columnNameOfCorruptRecord", CORRUPT)
    if source.format == "json":
        reader = reader.option("primitivesAsString", True)
        return reader.schema(_with_corrupt(reader.json(paths).schema)).json(paths)
    # enforceSchema=false: a file whose columns stand in another order is an error, and not read by position.
    reader = reader.option("header", True).option("sep", source.delimiter).option("escape", '"')
    reader = reader.option("enforceSchema", False)
    return reader.schema(_with_corrupt(reader.csv(paths).schema)).csv(paths)


def _with_corrupt(found: T.StructType) -> T.StructType:
    """The columns that the files have, and the one for a line that does not fit them."""
    return T.StructType([field for field in found if field.name != CORRUPT]).add(CORRUPT, T.StringType())


def _unless_blank(column: Column) -> Column:
    return F.when(F.trim(column) != "", column)


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
        return F.timestamp_micros((column.cast("double") * 1_000_000).try_cast("bigint"))
    instant = F.when(column.rlike(DATED_TEXT), column.try_cast("timestamp"))
    return F.when(column.rlike(ZONED_TEXT), instant).otherwise(F.to_utc_timestamp(instant, zone))
