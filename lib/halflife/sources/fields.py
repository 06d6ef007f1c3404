"""A column of any type as the text, the number or the instant that it means."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife.config import EPOCH_UNITS

# A time as text begins with a date (a time of day alone would mean today).
DATED_TEXT = r"^\s*\d{4}-\d{1,2}-\d{1,2}"
# What may follow where it says no zone of its own: nothing, or a time of day.
LOCAL_TEXT = DATED_TEXT + r"([T ]\d{1,2}(:\d{1,2}(:\d{1,2}(\.\d*)?)?)?)?\s*$"
# Spark reads 12:00Z only with its seconds.
NO_SECONDS = r"([T ]\d{1,2}:\d{1,2})(?=\s*[^\d\s:])"
FIRST_DAY, LAST_DAY = "0000-01-01", "9999-12-31"
EXACT_DOUBLE = 2.0**53  # whole numbers up to it stand exactly in a double
SAME_AS_UTC = ("UTC", "Etc/UTC", "GMT", "Etc/GMT")


def as_text(column: Column, kind: T.DataType) -> Column:
    """An id, or any other value, as text.

    A whole floating-point number is written as an integer: a column of integers with a missing one among them is
    often stored as doubles, and 17850 and 17850.0 are one id. NaN is none.
    """
    if isinstance(kind, T.StringType):
        return column
    text = column.cast("string")
    if not isinstance(kind, T.FractionalType) or isinstance(kind, T.DecimalType):
        return text
    whole = (column == F.rint(column)) & (F.abs(column) < EXACT_DOUBLE)
    return F.when(whole, column.cast("bigint").cast("string")).when(~F.isnan(column), text)


def as_written(column: Column, kind: T.DataType) -> Column:
    """What a value looks like in the log, null where there is none.

    Of anything but text it only matters that it is there: to write out each time of a Parquet file took 40 % of what it
    costs to judge a record.
    """
    if isinstance(kind, T.StringType):
        return column
    there = (
        column.isNotNull() & ~F.isnan(column) if isinstance(kind, T.FloatType | T.DoubleType) else column.isNotNull()
    )
    return F.when(there, F.lit(kind.simpleString()))


def as_number(column: Column, kind: T.DataType) -> Column:
    """A double; null where the value is none."""
    if isinstance(kind, T.NumericType):
        return column.cast("double")
    return as_text(column, kind).try_cast("double")


def unless_blank(column: Column) -> Column:
    """The text; null where it is empty or all spaces."""
    return F.when(F.trim(column) != "", column)


def as_instant(column: Column, kind: T.DataType, pattern: str, zone: str) -> Column:
    """A time of any type as a timestamp; null where it cannot be read as one.

    `pattern` says how text and numbers are written (`SourceConfig.time_format`); what has no zone of its own is in
    `zone`: an hour that occurs twice there is taken as its first occurrence (summer time), an hour that does not exist
    is moved on by what the clock was.
    """
    if isinstance(kind, T.TimestampType):
        return column
    if isinstance(kind, T.TimestampNTZType):
        return _in_zone(column.cast("timestamp"), zone)
    if isinstance(kind, T.DateType):
        return _in_zone(F.when(_in_calendar(column, "date"), column.cast("timestamp")), zone)
    if isinstance(kind, T.NumericType) and (pattern == "iso" or pattern in EPOCH_UNITS):
        return _of_number(column, kind, EPOCH_UNITS.get(pattern, EPOCH_UNITS["epoch_seconds"]))
    return _of_text(as_text(column, kind), pattern, zone)


def _in_zone(local: Column, zone: str) -> Column:
    """A clock's reading in the zone, held as if it were UTC, as the instant that it means."""
    if zone in SAME_AS_UTC:
        return local
    return F.when(_in_calendar(local, "timestamp"), F.to_utc_timestamp(local, zone))


def _in_calendar(time: Column, kind: str) -> Column:
    """Whether arithmetic on a time cannot overflow."""
    return time.between(F.lit(FIRST_DAY).cast(kind), F.lit(LAST_DAY).cast(kind))


def _of_number(column: Column, kind: T.DataType, micros: int) -> Column:
    if isinstance(kind, T.IntegralType):
        return F.timestamp_micros(F.try_multiply(column.cast("bigint"), F.lit(micros).cast("bigint")))
    return F.timestamp_micros(F.rint(column.cast("double") * micros).try_cast("bigint"))


def _of_text(text: Column, pattern: str, zone: str) -> Column:
    if pattern in EPOCH_UNITS:
        # 32 digits before the point: a product that overflows is no time either.
        micros = F.try_multiply(text.try_cast("decimal(28,9)"), F.lit(EPOCH_UNITS[pattern]).cast("decimal(7,0)"))
        return F.timestamp_micros(F.round(micros).try_cast("bigint"))
    if pattern != "iso":
        parsed = F.try_to_timestamp(text, F.lit(pattern))
        return parsed if names_zone(pattern) else _in_zone(parsed, zone)
    local = _in_zone(text.try_cast("timestamp"), zone)
    with_seconds = F.regexp_replace(text, NO_SECONDS, "$1:00")
    zoned = F.coalesce(text.try_cast("timestamp"), F.regexp_replace(with_seconds, r"z\s*$", "Z").try_cast("timestamp"))
    return F.when(text.rlike(LOCAL_TEXT), local).when(text.rlike(DATED_TEXT), zoned)


def names_zone(pattern: str) -> bool:
    """Whether a time of this pattern says its own zone, by one of the letters V z O X x Z."""
    unquoted = "".join(pattern.split("'")[::2])
    return not set(unquoted).isdisjoint("VzOXxZ")
