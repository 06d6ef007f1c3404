"""Judging raw records: every record is accepted, quarantined with a reason, or a duplicate."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date
from functools import reduce
from math import inf

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from halflife.config import SessionizeConfig, SourceConfig
from halflife.nights import instant

MICROS_PER_DAY = 86_400_000_000
MICROS_PER_SECOND = 1_000_000
# What the reader saw and nobody needs once a record is judged.
READ_ONLY = ("time_text", "dwell_text", "rating_text", "quantity_text", "fault")


def judge(
    raw: DataFrame, source: SourceConfig, types: Collection[str], as_of: date, config: SessionizeConfig
) -> DataFrame:
    """Add `reason` to the raw records of one source: why one is rejected, null where it is accepted.

    The first rule that fits is the reason. Where an unknown event type becomes `config.default_event_type`, so does
    the column `event_type`.
    """
    rules = [
        *_needed_rules(),
        *_time_rules(source, as_of, config),
        *_type_rules(source, types, config),
        *_number_rules(source, config),
        ("id_too_long", _any(_longer(name, config.max_id_length) for name in _ids(source))),
    ]
    reason = F.when(F.col("fault").isNotNull(), F.col("fault"))
    for name, broken in rules:
        reason = reason.when(broken, F.lit(name))
    return raw.withColumns({"event_type": _event_type(source, types, config), "reason": reason})


def quarantined(judged: DataFrame) -> DataFrame:
    """The rejected records, in the columns of `schemas.QUARANTINE`."""
    return judged.where(F.col("reason").isNotNull()).select("source", "source_file", "reason", "raw")


def rows_read(raw: DataFrame) -> DataFrame:
    """How many records each file has: `source`, `source_file`, `arrival_day`, `rows_read`.

    Counted from what was read alone, so that the identity rows_read = accepted + quarantined + duplicates can fail
    where a later step loses a record.
    """
    return raw.groupBy("source", "source_file", "arrival_day").agg(F.count(F.lit(1)).alias("rows_read"))


def arrival() -> Column:
    """The day on which a record arrived: its file's, or where a file has no day, the event's own."""
    return F.coalesce("arrival_day", F.to_date("event_time"))


def _needed_rules() -> list[tuple[str, Column]]:
    time = F.col("event_time")
    return [
        ("missing_user", _blank("user_id")),
        ("missing_item", _blank("item_id")),
        ("missing_time", time.isNull() & _blank("time_text")),
        ("unparsable_time", time.isNull()),
    ]


def _time_rules(source: SourceConfig, as_of: date, config: SessionizeConfig) -> list[tuple[str, Column]]:
    """Lateness is judged by when a record's own file arrived, so that one night with many days takes what many take."""
    micros = F.unix_micros("event_time")
    arrived = (F.unix_date("arrival_day") + 1) * MICROS_PER_DAY if source.dated else F.lit(_micros(as_of))
    tolerance = round(config.future_tolerance_seconds * MICROS_PER_SECOND)
    rules = [
        ("time_before_floor", micros < _micros(config.event_time_floor)),
        ("time_after_as_of", micros >= arrived + tolerance),
    ]
    if source.dated:
        rules.append(("too_late", micros < arrived - config.late_days * MICROS_PER_DAY))
    return rules


def _type_rules(source: SourceConfig, types: Collection[str], config: SessionizeConfig) -> list[tuple[str, Column]]:
    if source.event_type is not None or config.default_event_type is not None:
        return []
    return [("unknown_event_type", ~_known_type(types))]


def _event_type(source: SourceConfig, types: Collection[str], config: SessionizeConfig) -> Column:
    if source.event_type is not None or config.default_event_type is None:
        return F.col("event_type")
    return F.when(_known_type(types), F.col("event_type")).otherwise(config.default_event_type)


def _known_type(types: Collection[str]) -> Column:
    return F.col("event_type").isNotNull() & F.col("event_type").isin(*types)


def _number_rules(source: SourceConfig, config: SessionizeConfig) -> list[tuple[str, Column]]:
    """Only for the columns that the source maps: the others are null throughout."""
    columns, rules = source.columns, list[tuple[str, Column]]()
    if columns.dwell_seconds is not None:
        dwell = F.col("dwell_seconds")
        rules.append(("unparsable_dwell", _unparsable("dwell_seconds", "dwell_text")))
        rules.append(("dwell_out_of_range", (dwell < 0) | (dwell > config.max_dwell_seconds)))
    if columns.rating is not None:
        rating, (lowest, highest) = F.col("rating"), source.rating_scale
        rules.append(("unparsable_rating", _unparsable("rating", "rating_text")))
        rules.append(("rating_out_of_range", (rating < lowest) | (rating > highest)))
    if columns.quantity is not None:
        none = F.col("quantity") == 0
        rules.append(("unparsable_quantity", _unparsable("quantity", "quantity_text") | none))
    return rules


def _unparsable(number: str, text: str) -> Column:
    """Whether a text is there, but no finite number."""
    value = F.col(number)
    # To Spark, NaN is larger than infinity: one comparison finds both.
    return (value.isNull() & F.col(text).isNotNull() & ~_blank(text)) | (F.abs(value) >= inf)


def _ids(source: SourceConfig) -> list[str]:
    ids = {"event_id": source.columns.event_id, "given_session_id": source.columns.session_id}
    return ["user_id", "item_id", *(name for name, mapped in ids.items() if mapped is not None)]


def _longer(name: str, length: int) -> Column:
    # Bytes are known without a look at the text; only where they are many are characters counted.
    return (F.octet_length(name) > length) & (F.length(name) > length)


def _blank(name: str) -> Column:
    """Whether a text is missing or has nothing but white space, of any script."""
    text = F.col(name)
    # A regular expression costs more than all other rules; no text that begins with a visible ASCII sign needs it.
    looks_odd = (text < "!") | (text > "~")
    return text.isNull() | (looks_odd & ~text.rlike(r"(?U)\S"))


def _any(conditions: Iterable[Column]) -> Column:
    return reduce(Column.__or__, conditions)


def _micros(day: date) -> int:
    return int(instant(day).timestamp()) * MICROS_PER_SECOND
