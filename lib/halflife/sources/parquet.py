"""Records of Parquet files: those whose columns have the same types are read together."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife.errors import UnreadableInputError
from halflife.sources.files import DATE, absolute, of_each, spark_path
from halflife.sources.records import INVALID_ENCODING, Field, Records, Wanted


@dataclass(frozen=True)
class _Stored:
    """A column of a Parquet file."""

    name: str
    read: T.DataType  # the type that Spark is to read it as
    kind: T.DataType  # the type that it means

    def leaves(self) -> Iterator[tuple[str, Field]]:
        """The column and, where it is a struct, the fields inside it, by their names with dots."""
        yield self.name, Field(self._meant(), self.kind)
        yield from _inside(self.name, F.col(f"`{self.name}`"), self.kind)

    def _meant(self) -> Column:
        column = F.col(f"`{self.name}`")
        if isinstance(self.kind, T.NullType):
            return F.lit(None).cast("string")
        if isinstance(self.kind, T.TimestampType | T.TimestampNTZType) and isinstance(self.read, T.LongType):
            return F.timestamp_micros(F.call_function("div", column, F.lit(1_000)))
        return column

    def shown(self) -> Column:
        """The column for the record's text: a time without a zone is shown without one."""
        meant = self._meant()
        return (meant.cast("timestamp_ntz") if isinstance(self.kind, T.TimestampNTZType) else meant).alias(self.name)


def _inside(name: str, column: Column, kind: T.DataType) -> Iterator[tuple[str, Field]]:
    for field in kind if isinstance(kind, T.StructType) else ():
        path, inner = f"{name}.{field.name}", column[field.name]
        yield path, Field(inner, field.dataType)
        yield from _inside(path, inner, field.dataType)


def records(spark: SparkSession, path: str, files: Sequence[Path], wanted: Wanted) -> list[Records]:
    """The records of files that `path` names, by the types of their columns."""
    layouts: dict[tuple[_Stored, ...], list[Path]] = {}
    named: dict[Path, Collection[str]] = {}
    for file, columns in zip(files, of_each(_layout, files), strict=True):
        fields = {name: field for column in columns for name, field in column.leaves()}
        _check_kinds(file, columns, fields, wanted)
        named[file] = fields
        layouts.setdefault(columns, []).append(file)
    wanted.check(named)
    return [_of_layout(spark, path, columns, alike, wanted) for columns, alike in layouts.items()]


def _of_layout(
    spark: SparkSession, path: str, columns: tuple[_Stored, ...], files: Sequence[Path], wanted: Wanted
) -> Records:
    fields = {name: field for column in columns for name, field in column.leaves()}
    twins = _twins(columns)  # Spark cannot tell them apart
    read = [c for c in columns if c.name not in twins and not isinstance(c.kind, T.NullType)]
    schema = T.StructType([T.StructField(column.name, column.read) for column in read])
    base, key = _day_folder(path, files, columns)
    reader = spark.read.option("basePath", base) if key else spark.read
    return Records(
        frame=reader.schema(schema.add(key, T.DateType()) if key else schema).parquet(*map(spark_path, files)),
        file=F.col("_metadata.file_path"),
        fields=fields,
        fault=F.when(_no_text([fields[name] for name in wanted.names if name in fields]), INVALID_ENCODING),
        raw=F.to_json(F.struct(*(column.shown() for column in read))),
        day=F.col(f"`{key}`") if key else None,
    )


def _day_folder(path: str, files: Sequence[Path], columns: Sequence[_Stored]) -> tuple[str, str]:
    """Of folders such as date=2026-01-01, where they are and their key; blank where the path has none.

    Spark gives such a day to a whole file; cutting it out of the file's path would cost more than reading a row.
    """
    found = re.fullmatch(r"([^*?\[]*)/(\w+)=", absolute(path).partition(DATE)[0])
    if found is None or found[2].lower() in {column.name.lower() for column in columns}:
        return "", ""
    deeper = any(absolute(file).removeprefix(found[1]).count("=") > 1 for file in files)
    return ("", "") if deeper else (found[1], found[2])


def _no_text(fields: Sequence[Field]) -> Column:
    """Whether the bytes of a field are no UTF-8: Parquet says that text is, and no writer must check it."""
    texts = [field.column.cast("string") for field in fields if isinstance(field.kind, T.StringType | T.BinaryType)]
    return reduce(Column.__or__, [~F.is_valid_utf8(text) for text in texts], F.lit(False))


def _twins(columns: Sequence[_Stored]) -> set[str]:
    """Names that occur more than once, or differ by case only."""
    folded = [column.name.lower() for column in columns]
    return {column.name for column in columns if folded.count(column.name.lower()) > 1}


def _check_kinds(file: Path, columns: Sequence[_Stored], fields: Mapping[str, Field], wanted: Wanted) -> None:
    """Raises UnreadableInputError where a mapped column holds no single values, or shares its name with another."""
    twins = _twins(columns)
    for part, name in wanted.columns:
        if name in twins:
            others = ", ".join(sorted(twin for twin in twins if twin.lower() == name.lower()))
            raise UnreadableInputError(
                file, f"it has more than one column {name!r}, or they differ by case only ({others})", "rename one"
            )
        kind = fields[name].kind if name in fields else T.StringType()
        if name in wanted.vectors:
            if not isinstance(kind, T.StringType | T.NullType) and not _list_of_numbers(kind):
                raise UnreadableInputError(file, f"column {name!r} is no list of numbers but {kind.simpleString()}")
        elif isinstance(kind, T.StructType | T.ArrayType | T.MapType):
            raise UnreadableInputError(
                file,
                f"column {name!r} (for {part}) holds no single value but {kind.simpleString()}",
                "map a field inside it, or write it as text",
            )


def _list_of_numbers(kind: T.DataType) -> bool:
    return isinstance(kind, T.ArrayType) and isinstance(kind.elementType, T.NumericType)


def _layout(file: Path) -> tuple[_Stored, ...]:
    """The columns of a file, by name."""
    try:
        schema = pq.read_metadata(file).schema
        arrow = schema.to_arrow_schema()
    except pa.ArrowException as error:
        raise UnreadableInputError(file, str(error)) from error
    old_times = {leaf.path for leaf in map(schema.column, range(len(schema))) if leaf.physical_type == "INT96"}
    columns = [_stored(field.name, field.type, field.name in old_times) for field in arrow]
    return tuple(sorted(columns, key=lambda column: column.name))


def _stored(name: str, arrow: pa.DataType, old_time: bool) -> _Stored:
    kind = _kind(arrow)
    if isinstance(kind, T.TimestampType | T.TimestampNTZType):
        if old_time:
            return _Stored(name, T.TimestampType(), T.TimestampType())
        # A time without a zone is read as if it were UTC, to be moved to its zone once and not twice.
        return _Stored(name, T.LongType() if arrow.unit == "ns" else T.TimestampType(), kind)
    return _Stored(name, kind, kind)


# What pyarrow finds in a footer, as the type that Spark reads.
_KINDS: dict[pa.DataType, T.DataType] = {
    pa.null(): T.NullType(),
    pa.bool_(): T.BooleanType(),
    pa.int8(): T.ByteType(),
    pa.int16(): T.ShortType(),
    pa.int32(): T.IntegerType(),
    pa.int64(): T.LongType(),
    pa.uint8(): T.ShortType(),
    pa.uint16(): T.IntegerType(),
    pa.uint32(): T.LongType(),
    pa.uint64(): T.DecimalType(20, 0),
    pa.float32(): T.FloatType(),
    pa.float64(): T.DoubleType(),
    pa.string(): T.StringType(),
    pa.large_string(): T.StringType(),
    pa.binary(): T.BinaryType(),
    pa.large_binary(): T.BinaryType(),
    pa.date32(): T.DateType(),
    pa.time32("ms"): T.IntegerType(),
}


def _kind(arrow: pa.DataType) -> T.DataType:
    if arrow in _KINDS:
        return _KINDS[arrow]
    if pa.types.is_timestamp(arrow):
        return T.TimestampNTZType() if arrow.tz is None else T.TimestampType()
    if pa.types.is_decimal(arrow):
        return T.DecimalType(arrow.precision, arrow.scale)
    if pa.types.is_dictionary(arrow):
        return _kind(arrow.value_type)
    if pa.types.is_map(arrow):
        return T.MapType(_inner(arrow.key_type), _inner(arrow.item_type))
    if pa.types.is_struct(arrow):
        return T.StructType([T.StructField(field.name, _inner(field.type)) for field in arrow])
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow):
        return T.ArrayType(_inner(arrow.value_type))
    # The others are a number (a time of day, a duration) or bytes of a fixed size.
    return T.BinaryType() if pa.types.is_fixed_size_binary(arrow) else T.LongType()


def _inner(arrow: pa.DataType) -> T.DataType:
    """The type of what is inside a list, a map or a struct: Spark knows nanoseconds as a number only."""
    return T.LongType() if pa.types.is_timestamp(arrow) and arrow.unit == "ns" else _kind(arrow)
