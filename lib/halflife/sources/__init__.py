"""Reading raw event logs as the config describes them: any format in, the columns of `schemas.RAW` out."""

from __future__ import annotations

import re
from functools import reduce
from urllib.parse import unquote

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from halflife.config import EPOCH_UNITS, SourceConfig
from halflife.errors import ConfigError
from halflife.sources.catalogue import read_catalogue
from halflife.sources.fields import as_instant, as_number, as_text, as_written, unless_blank
from halflife.sources.files import Intake, absolute, day_pattern, existing, find, fingerprint, matching
from halflife.sources.readers import records
from halflife.sources.records import Records, Wanted

__all__ = ["Intake", "existing", "find", "fingerprint", "matching", "read", "read_catalogue"]

RAW_CHARACTERS = 65_536  # of a record's text are kept
REQUIRED = frozenset({"user", "item", "time", "event_type"})


def read(spark: SparkSession, intake: Intake) -> DataFrame:
    """The records of a source's files, one row each, in the columns of `schemas.RAW`.

    Raises InputMissingError that names a file and the column which it lacks, UnreadableInputError that names a file
    which is damaged or not what the config says, ConfigError for a time pattern that Spark does not know.
    """
    source, columns = intake.source, intake.source.columns
    _check_time_pattern(spark, intake)
    parts = (*columns.mapped.items(), *(("context", name) for name in columns.context))
    wanted = Wanted(f"sources.{intake.name}", parts, REQUIRED)
    found = records(spark, source, source.line_pattern, intake.files, wanted)
    return reduce(DataFrame.unionByName, [_raw(intake, part) for part in found])


def _raw(intake: Intake, part: Records) -> DataFrame:
    """The records of one layout, in the columns of `schemas.RAW`."""
    source, mapped = intake.source, intake.source.columns.mapped
    fields = {name: part.fields[column] for name, column in mapped.items() if column in part.fields}

    def text(name: str) -> Column:
        return as_text(fields[name].column, fields[name].kind) if name in fields else F.lit(None).cast("string")

    def number(name: str) -> Column:
        return as_number(fields[name].column, fields[name].kind) if name in fields else F.lit(None).cast("double")

    def written(name: str) -> Column:
        return as_written(fields[name].column, fields[name].kind) if name in fields else F.lit(None).cast("string")

    time = fields["time"]
    # Spark writes file:///a here, and file:/a in the column of the file.
    names = [name.replace("file:///", "file:/", 1) for name in part.frame.inputFiles()]
    return part.frame.select(
        F.lit(intake.name).alias("source"),
        _shown(part.file, names).alias("source_file"),
        _arrival_day(source, part, names).alias("arrival_day"),
        text("user").alias("user_id"),
        text("item").alias("item_id"),
        as_instant(time.column, time.kind, source.time_pattern, source.time_zone).alias("event_time"),
        written("time").alias("time_text"),
        _event_type(source, text("event_type")).alias("event_type"),
        unless_blank(text("event_id")).alias("event_id"),
        unless_blank(text("session_id")).alias("given_session_id"),
        number("dwell_seconds").alias("dwell_seconds"),
        written("dwell_seconds").alias("dwell_text"),
        number("rating").alias("rating"),
        written("rating").alias("rating_text"),
        number("quantity").alias("quantity"),
        written("quantity").alias("quantity_text"),
        _context(source, part).alias("context"),
        part.fault.alias("fault"),
        F.substring(part.raw, 1, RAW_CHARACTERS).alias("raw"),
    )


def _event_type(source: SourceConfig, text: Column) -> Column:
    if source.event_type is not None:
        return F.lit(source.event_type)
    kinds = [F.when(text.rlike(pattern), kind) for kind, pattern in source.type_patterns.items()]
    return F.coalesce(*kinds, text)


def _context(source: SourceConfig, part: Records) -> Column:
    """The source's context columns by name, null where it has none."""
    found = [(name, part.fields.get(name)) for name in source.columns.context]
    if not found:
        return F.lit(None).cast("map<string,string>")
    none = F.lit(None).cast("string")
    pairs = [(F.lit(name), none if field is None else as_text(field.column, field.kind)) for name, field in found]
    return F.create_map(*[column for pair in pairs for column in pair])


def _shown(file: Column, names: list[str]) -> Column:
    """The file's path as it is written; Spark writes a space in it as %20."""
    if not any("%" in name for name in names):
        return file
    return F.url_decode(F.replace(file, F.lit("+"), F.lit("%2B")))


def _arrival_day(source: SourceConfig, part: Records, names: list[str]) -> Column:
    """The day in the file's path, cut out at the place where it stands."""
    if not source.dated:
        return F.lit(None).cast("date")
    if part.day is not None:
        return part.day
    before = {name[: _place_of_day(source.path, name)] for name in names}
    if len({len(start) for start in before}) == 1:
        return F.substring(part.file, len(before.pop()) + 1, 10).cast("date")
    starts = "|".join(map(re.escape, sorted(before)))
    return F.regexp_extract(part.file, rf"^(?:{starts})(\d{{4}}-\d{{2}}-\d{{2}})", 1).cast("date")


def _place_of_day(template: str, name: str) -> int:
    """Where the day of a `{date}` template begins in a file's name as Spark writes it."""
    day = day_pattern(absolute(template)).match(unquote(name.removeprefix("file:")))
    assert day is not None  # the template found the file
    before = "file:" + day.string[: day.start(1)]
    return next(
        at.start() for at in re.finditer(r"(?=\d{4}-\d{2}-\d{2})", name) if unquote(name[: at.start()]) == before
    )


def _check_time_pattern(spark: SparkSession, intake: Intake) -> None:
    """Raises ConfigError for a pattern that Spark does not know: found out here, and not by the first record."""
    pattern = intake.source.time_pattern
    if pattern == "iso" or pattern in EPOCH_UNITS:
        return
    try:
        spark.range(1).select(F.try_to_timestamp(F.lit("x"), F.lit(pattern))).collect()
    except PySparkException as error:
        message = f"sources.{intake.name}.time_format: {pattern!r} is no pattern that Spark knows"
        raise ConfigError(f"{message} (dd/MM/yyyy HH:mm is one)") from error
