"""Where the records come from: logs, catalogues, event types, and whether users go by pseudonyms."""

from __future__ import annotations

import re
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from halflife.config.section import Section

# Apache's and nginx's combined log format: the host, identity and user of the client; the time between brackets; the
# request's method, path and protocol (a request that is none, a scanner's garbage say, is all path); the status; the
# bytes sent; the referer and the user agent between quotes, which the `common` format lacks. - stands for nothing.
COMBINED_LOG = (
    r"^(?P<host>\S+) (?P<ident>\S+) (?P<user>\S+) \[(?P<time>[^\]]+)\] "
    r"\"(?:(?P<method>[A-Z]+) )?(?P<path>.*?)(?: (?P<protocol>HTTP/[\d.]+))?\" (?P<status>\d{3}) (?P<bytes>\d+|-)"
    r"(?: \"(?P<referer>.*?)\" \"(?P<agent>.*)\")?\s*$"
)


COMBINED_LOG_TIME = "dd/MMM/yyyy:HH:mm:ss Z"


# Microseconds in one unit of a time that is written as a number.
EPOCH_UNITS = {"epoch_seconds": 1_000_000, "epoch_millis": 1_000, "epoch_micros": 1}


class ColumnsConfig(Section):
    """Which column of a source plays which part. Only user, item and time are needed.

    A field inside a JSON object or a Parquet struct is written with dots: `product.sku`.
    """

    user: str
    item: str
    time: str
    event_type: str | None = None
    event_id: str | None = None
    session_id: str | None = None
    dwell_seconds: str | None = None
    rating: str | None = None
    quantity: str | None = None
    context: tuple[str, ...] = Field(default=(), description="further columns that events keep as text")

    @property
    def mapped(self) -> dict[str, str]:
        """The column of every part that has one, context left out."""
        parts: dict[str, str] = self.model_dump(exclude_none=True, exclude={"context"})
        return parts


class FilesConfig(Section):
    """Files of records: a file, a folder or a glob, plain or compressed (gz, bz2; Parquet by itself)."""

    path: str
    format: Literal["parquet", "csv", "json", "log"] = Field(default="parquet", description="json: an object a line")
    delimiter: str = Field(default=",", min_length=1, description='of CSV; write a tab as "\\t"')
    header: tuple[str, ...] = Field(default=(), description="names of a CSV file's columns, where no line of it does")
    multiline: bool = Field(default=False, description="whether a quoted CSV field may hold line ends: one task a file")
    encoding: str = Field(default="UTF-8", description="of CSV, JSON and log files")

    @field_validator("delimiter")
    @classmethod
    def _separates(cls, value: str) -> str:
        value = value.replace("\\t", "\t")
        if not set(value).isdisjoint('"\r\n\x01'):
            raise ValueError("a quote or a line end cannot separate fields")
        return value

    @field_validator("encoding")
    @classmethod
    def _over_ascii(cls, value: str) -> str:
        """Lines, delimiters and quotes are found as ASCII bytes before anything is decoded."""
        ascii = '\n\r,;\t"{}[]:0123456789'
        try:
            plain = ascii.encode(value) == ascii.encode("ascii")
        except (LookupError, UnicodeError) as error:
            raise ValueError(f"{value!r} is no known encoding") from error
        if not plain:
            raise ValueError(f"{value} does not hold ASCII as it stands; convert the files to UTF-8")
        return value


class SourceConfig(FilesConfig):
    """One event log: Parquet, CSV, JSON lines or lines of text.

    A path that holds `{date}` has one folder or file a UTC day, and a night reads only its own days. What such a file
    holds from the end of its day on is quarantined as time_after_as_of, what is older than late_days as too_late. A
    path without `{date}` is read whole every night; what was accepted before is a duplicate then.
    """

    columns: ColumnsConfig
    event_type: str | None = Field(default=None, description="the type of every row, where no column tells")
    type_patterns: dict[str, str] = Field(
        default={}, description="event types by a regular expression over columns.event_type; the first that is found"
    )
    pattern: str | None = Field(
        default=None, description="of format log: a regular expression with named groups; default: combined log format"
    )
    time_format: str = Field(
        default="iso",
        description="iso, epoch_seconds, epoch_millis, epoch_micros, or a pattern such as dd/MM/yyyy HH:mm",
    )
    time_zone: str = Field(default="UTC", description="zone of times that carry none")
    rating_scale: tuple[float, float] = (1.0, 5.0)
    duplicates: Literal["event_id", "key", "off"] | None = Field(
        default=None,
        description="what makes two records one event: the log's event id (the default where it has one), all key "
        "columns (the default where it has none), or nothing: repeats are real",
    )
    required: bool = Field(default=True, description="whether a day without a file is an error")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is no IANA time zone") from error
        return value

    @field_validator("time_format")
    @classmethod
    def _date_pattern(cls, value: str) -> str:
        if "%" in value:
            raise ValueError("write the pattern in letters, dd/MM/yyyy HH:mm say, not with %")
        if value.startswith(("iso", "epoch")) and value not in EPOCH_UNITS and value != "iso":
            raise ValueError(f"none of iso, {', '.join(EPOCH_UNITS)} or a pattern such as dd/MM/yyyy HH:mm")
        return value

    @field_validator("rating_scale")
    @classmethod
    def _scale_ascends(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError("write the lowest rating first, then the highest")
        return value

    @model_validator(mode="after")
    def _one_source_of_type(self) -> SourceConfig:
        if (self.event_type is None) == (self.columns.event_type is None):
            raise ValueError("give event_type (the same for every row) or columns.event_type, one of the two")
        if self.type_patterns and self.columns.event_type is None:
            raise ValueError("type_patterns needs columns.event_type, the column to look at")
        for kind, pattern in self.type_patterns.items():
            _compiled(pattern, f"type_patterns.{kind}")
        return self

    @model_validator(mode="after")
    def _ids_to_go_by(self) -> SourceConfig:
        if self.duplicates == "event_id" and self.columns.event_id is None:
            raise ValueError("duplicates: event_id needs columns.event_id")
        return self

    @model_validator(mode="after")
    def _groups_of_a_log(self) -> SourceConfig:
        if self.format != "log":
            if self.pattern is not None:
                raise ValueError("pattern needs format: log")
            return self
        groups = _compiled(self.line_pattern, "pattern").groupindex
        for column in (*self.columns.mapped.values(), *self.columns.context):
            if column not in groups:
                raise ValueError(f"pattern has no group {column!r}; its groups are {', '.join(groups)}")
        return self

    @property
    def dated(self) -> bool:
        """Whether the path says of which day a file is."""
        return "{date}" in self.path

    @property
    def same_event(self) -> Literal["event_id", "key", "off"]:
        """What makes two records one event."""
        return self.duplicates or ("key" if self.columns.event_id is None else "event_id")

    @property
    def line_pattern(self) -> str:
        """The regular expression of a log's lines, its groups named as Python does: (?P<name>...)."""
        return re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", self.pattern or COMBINED_LOG)

    @property
    def time_pattern(self) -> str:
        """How times are written: `time_format`, or that of the combined log format where the lines are in it."""
        combined = self.format == "log" and self.pattern is None and self.time_format == "iso"
        return COMBINED_LOG_TIME if combined else self.time_format


def _compiled(pattern: str, key: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{key}: no regular expression: {error}") from error


class EventTypeConfig(Section):
    """One kind of event: its signed weight in an event's strength."""

    weight: float


class CatalogueConfig(FilesConfig):
    """A known list of ids (members, assortment), so that ids without events are scored as well; and what is known of
    each: `features` as text, `vectors` as lists of numbers of one length (in CSV written as [0.1, 0.2])."""

    id: str = Field(description="column of the id")
    title: str | None = None
    category: str | None = None
    features: tuple[str, ...] = Field(default=(), description="further columns that are kept as text: brand, say")
    vectors: tuple[str, ...] = Field(default=(), description="columns of embeddings computed elsewhere")

    @field_validator("format")
    @classmethod
    def _no_log(cls, value: str) -> str:
        if value == "log":
            raise ValueError("a catalogue is parquet, csv or json")
        return value


class PseudonymsConfig(Section):
    """User ids are replaced as they are read, by HMAC-SHA-256 with a key: no table holds one."""

    key_file: str = Field(
        min_length=1, description="file of the key, of 32 bytes or more, outside the warehouse; one key for ever"
    )
