"""Records of text files: CSV, JSON lines, and lines that a regular expression takes apart.

A file's header line is read beforehand, and files with the same one together: Spark makes no pass of its own to guess.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from itertools import groupby
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife.config import FilesConfig
from halflife.errors import ConfigError, InputMissingError, UnreadableInputError
from halflife.sources.files import first_lines, of_each, spark_path
from halflife.sources.records import INVALID_ENCODING, MALFORMED, Field, Records, Wanted

CORRUPT = "corrupt"
REPLACEMENT = "\ufffd"  # what a decoder writes for bytes that it cannot read
# Stands behind the last field of a CSV line: a quote that is never closed swallows it.
LINE_END = "\x01"
GROUP_START = "\x01"  # stands before each group's text of a log's line
MAX_FIELDS = 100_000  # of a CSV line; the parser fails beyond
LOOKED_AT = 100  # lines of JSON, to tell a misspelt field from one that is seldom there
# Half of a character beyond U+FFFF, written as an escape without its other half: it stands for no text.
LONE_SURROGATE = (
    r"(?i)(?<!\\)(?:\\\\)*\\u(?:d[89ab][0-9a-f]{2}(?!\\ud[c-f])|(?<!\\ud[89ab][0-9a-f]{2}\\u)d[c-f][0-9a-f]{2})"
)


def _lines(spark: SparkSession, files: Sequence[Path], encoding: str) -> DataFrame:
    """The lines that are not blank: `line`, whether its `broken` bytes are no text in the encoding, and `file`."""
    value = F.col("value")
    if codecs.lookup(encoding).name == "utf-8":
        valid = F.is_valid_utf8(value)
        line = F.when(valid, value).otherwise(F.make_valid_utf8(value))
        broken = ~valid
    else:
        line = F.decode(value.cast("binary"), encoding)
        broken = line.contains(REPLACEMENT)
    text = spark.read.text([spark_path(file) for file in files])
    return text.where(F.trim(value) != "").select(
        line.alias("line"), broken.alias("broken"), F.col("_metadata.file_path").alias("file")
    )


def _of_lines(frame: DataFrame, fields: Mapping[str, Column], malformed: Column) -> Records:
    """Records of lines whose fields are all text."""
    return Records(
        frame=frame,
        file=F.col("file"),
        fields={name: Field(column, T.StringType()) for name, column in fields.items()},
        fault=F.when(F.col("broken"), INVALID_ENCODING).when(malformed, MALFORMED),
        raw=F.col("line"),
    )


def _once(parsed: Column) -> Column:
    """A costly column that is made once a row.

    Spark would move a condition on the record below the parsing, and put the parsing into it once for each field that
    it looks at (dozens of times). It moves none below what depends on more than the row: here on a count of rows.
    """
    return F.when(F.monotonically_increasing_id() >= 0, parsed)


# --- CSV


def of_csv(spark: SparkSession, config: FilesConfig, files: Sequence[Path], wanted: Wanted) -> list[Records]:
    """Records of CSV files, by header line."""
    heads = of_each(partial(first_lines, encoding=config.encoding), files)
    names: dict[str, tuple[str, ...]] = {"": config.header}
    layouts: dict[str, list[Path]] = {}
    for file, head in zip(files, heads, strict=True):
        if not head and not config.header:
            raise UnreadableInputError(file, "it is empty, without even a header line")
        line = "" if config.header else head[0]
        names.setdefault(line, _split(line, config.delimiter))
        layouts.setdefault(line, []).append(file)
        _check_header(file, names[line], wanted)
    wanted.check({file: names[line] for line, alike in layouts.items() for file in alike})
    read = _csv_files if config.multiline else _csv_lines
    return [read(spark, config, alike, line, names[line]) for line, alike in layouts.items()]


def _split(line: str, delimiter: str) -> tuple[str, ...]:
    """The names in a header line."""
    if len(delimiter) == 1:
        return tuple(next(csv.reader([line], delimiter=delimiter)))
    return tuple(name.strip('"') for name in line.split(delimiter))


def _check_header(file: Path, names: Sequence[str], wanted: Wanted) -> None:
    for name in wanted.names:
        if names.count(name) > 1:
            raise UnreadableInputError(file, f"its header has {names.count(name)} columns {name!r}", "rename one")


def _csv_lines(
    spark: SparkSession, config: FilesConfig, files: Sequence[Path], header: str, names: Sequence[str]
) -> Records:
    """Records of a line each. What equals the header line is none, wherever it stands: files get concatenated."""
    line = F.col("line")
    delimiters = (F.length(line) - F.length(F.replace(line, F.lit(config.delimiter)))) / len(config.delimiter)
    parsed = F.when((F.octet_length(line) > MAX_FIELDS) & (delimiters >= MAX_FIELDS - 1), "").otherwise(line)
    columns = [*_places(names), "last"]
    record = F.from_csv(
        F.concat(parsed, F.lit(config.delimiter + LINE_END)),
        ", ".join(f"{column} string" for column in (*columns, CORRUPT)),
        {**_csv_options(config), "maxColumns": str(MAX_FIELDS)},
    )
    frame = _lines(spark, files, config.encoding).where(line != header).withColumn("record", _once(record))
    fields = {name: F.col("record")[place] for place, name in zip(_places(names), names, strict=True)}
    whole = F.col("record")[CORRUPT].isNull() & F.col("record")["last"].eqNullSafe(LINE_END)
    return _of_lines(frame, fields, ~whole)


def _csv_files(
    spark: SparkSession, config: FilesConfig, files: Sequence[Path], header: str, names: Sequence[str]
) -> Records:
    """Records of one line or more."""
    columns = ", ".join(f"{column} string" for column in (*_places(names), CORRUPT))
    reader = spark.read.options(**_csv_options(config), multiLine="true", header=str(bool(header)).lower())
    frame = reader.schema(columns).csv([spark_path(file) for file in files])
    fields = {name: F.col(place) for place, name in zip(_places(names), names, strict=True)}
    text = F.coalesce(CORRUPT, F.to_json(F.struct(*(column.alias(name) for name, column in fields.items()))))
    return Records(
        frame=frame,
        file=F.col("_metadata.file_path"),
        fields={name: Field(column, T.StringType()) for name, column in fields.items()},
        # The decoder has been at work before: what was U+FFFD in the file cannot be told from what it put there.
        fault=F.when(text.contains(REPLACEMENT), INVALID_ENCODING).when(F.col(CORRUPT).isNotNull(), MALFORMED),
        raw=text,
    )


def _places(names: Sequence[str]) -> list[str]:
    """Names of the columns by their place: those in a header may occur twice, or differ by case only."""
    return [f"c{n}" for n in range(len(names))]


def _csv_options(config: FilesConfig) -> dict[str, str]:
    return {
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": CORRUPT,
        "sep": config.delimiter,
        "escape": '"',
        "encoding": config.encoding,
    }


# --- JSON lines


def of_json(spark: SparkSession, config: FilesConfig, files: Sequence[Path], wanted: Wanted) -> list[Records]:
    """Records of one JSON object a line."""
    _check_first_objects(files, config.encoding, wanted)
    line = F.col("line")
    # Inside an array, so that what follows the object on its line is no longer passed over.
    objects = F.from_json(
        F.concat(F.lit("["), line, F.lit("]")),
        T.ArrayType(_object_schema(wanted.names)),
        {"mode": "PERMISSIVE", "allowNonNumericNumbers": "false"},
    )
    frame = (
        _lines(spark, files, config.encoding)
        .withColumn("objects", _once(objects))
        .withColumn("record", F.when(F.size("objects") == 1, F.get("objects", F.lit(0))))
    )
    lone = line.contains("\\u") & line.rlike(LONE_SURROGATE)
    fields = {name: _nested(F.col("record"), name) for name in wanted.names}
    found = _of_lines(frame, fields, F.col("record").isNull())
    return [replace(found, fault=F.when(lone, INVALID_ENCODING).otherwise(found.fault))]


def _nested(record: Column, name: str) -> Column:
    return reduce(lambda outer, key: outer[key], name.split("."), record)


def _object_schema(names: Sequence[str]) -> T.StructType:
    """The fields with these names, all text; those with dots inside objects."""
    schema = T.StructType()
    for key, inside in groupby(sorted(name.split(".") for name in names), key=lambda path: path[0]):
        paths = [".".join(path[1:]) for path in inside]
        if "" in paths and len(paths) > 1:
            raise ConfigError(f"the columns {key} and {key}.{paths[1]} cannot be mapped both: one is inside the other")
        schema.add(key, T.StringType() if paths == [""] else _object_schema(paths))
    return schema


def _check_first_objects(files: Sequence[Path], encoding: str, wanted: Wanted) -> None:
    """Raises InputMissingError where none of the first records has a required field: its name is misspelt then."""
    first_of_each = of_each(partial(first_lines, encoding=encoding, count=LOOKED_AT), files)
    for file, lines in zip(files, first_of_each, strict=True):
        objects = [found for line in lines if (found := _object(line)) is not None]
        if not objects:
            continue
        for part, name in wanted.columns:
            if part in wanted.required and not any(_has(found, name.split(".")) for found in objects):
                have = ", ".join(dict.fromkeys(key for found in objects for key in found))
                raise InputMissingError(
                    f"{wanted.section}: no column {name!r} (for {part}) in the first records of {file}; it has: {have}"
                )
        return


def _object(line: str) -> dict[str, object] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _has(found: object, path: Sequence[str]) -> bool:
    return not path or (isinstance(found, dict) and path[0] in found and _has(found[path[0]], path[1:]))


# --- Lines through a regular expression


def of_log(spark: SparkSession, config: FilesConfig, files: Sequence[Path], pattern: str) -> list[Records]:
    """Records of one line each, whose fields are the named groups of the pattern."""
    of_each(partial(first_lines, encoding=config.encoding), files)  # raises for what is no text
    groups = re.compile(pattern).groupindex
    unnamed = re.sub(r"\(\?P<\w+>", "(", pattern)  # Java's names know no underscore; the groups' numbers are the same
    # One pass of the expression gives all groups: the line is replaced by their texts, each behind a mark.
    marked = F.regexp_replace("line", rf"(?d)^(?:{unnamed})$", "".join(f"{GROUP_START}${n}" for n in groups.values()))
    frame = _lines(spark, files, config.encoding).withColumn("groups", _once(F.split(marked, GROUP_START)))
    whole = (F.size("groups") == len(groups) + 1) & ~F.col("line").contains(GROUP_START)
    fields = {name: _present(F.get("groups", F.lit(n))) for n, name in enumerate(groups, start=1)}
    return [_of_lines(frame, fields, ~whole)]


def _present(text: Column) -> Column:
    """The text of a group; null where it took no part, or where the server wrote - for nothing."""
    return F.when(~text.isin("", "-"), text)
