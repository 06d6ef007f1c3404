"""Reading catalogues: the known users and items with what is known of each."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife.config import CatalogueConfig
from halflife.errors import InputMissingError, UnreadableInputError
from halflife.sources.fields import as_text, unless_blank
from halflife.sources.files import existing
from halflife.sources.readers import records
from halflife.sources.records import Field, Records, Wanted


def read_catalogue(spark: SparkSession, section: str, catalogue: CatalogueConfig) -> DataFrame:
    """Known ids and what is known of each: id, title, category, `features` (name -> text) and `vectors` (name ->
    array<float>); rows without an id are left out.

    Raises InputMissingError that names the path, the column, or the vectors that are no lists of finite numbers of one
    length, UnreadableInputError that names a file which is damaged.
    """
    files = existing(f"{section}.path", catalogue.path)
    parts = [(part, column) for part in ("id", "title", "category") if (column := getattr(catalogue, part)) is not None]
    more = [*(("features", name) for name in catalogue.features), *(("vectors", name) for name in catalogue.vectors)]
    wanted = Wanted(section, (*parts, *more), frozenset({"id"}), catalogue.vectors)
    found = records(spark, catalogue, "", files, wanted)
    listed = reduce(DataFrame.unionByName, [_rows(part, catalogue) for part in found])
    if catalogue.vectors or catalogue.format != "parquet":
        _check(listed, section, catalogue)
    return listed.where(unless_blank(F.col("id")).isNotNull()).drop("file", "fault", "raw")


def _rows(part: Records, catalogue: CatalogueConfig) -> DataFrame:
    def text(column: str | None) -> Column:
        field = None if column is None else part.fields.get(column)
        return F.lit(None).cast("string") if field is None else as_text(field.column, field.kind)

    features = [(name, text(name)) for name in catalogue.features]
    vectors = [(name, _vector(part.fields.get(name))) for name in catalogue.vectors]
    return part.frame.select(
        text(catalogue.id).alias("id"),
        text(catalogue.title).alias("title"),
        text(catalogue.category).alias("category"),
        _map(features, "map<string,string>").alias("features"),
        _map(vectors, "map<string,array<float>>").alias("vectors"),
        part.file.alias("file"),
        part.fault.alias("fault"),
        part.raw.alias("raw"),
    )


def _map(pairs: list[tuple[str, Column]], kind: str) -> Column:
    """A map of what a row has by name; empty where it has nothing."""
    flat = [column for name, value in pairs for column in (F.lit(name), value)]
    return F.map_filter(F.create_map(*flat).cast(kind), lambda _, value: value.isNotNull())


def _vector(field: Field | None) -> Column:
    """A list of numbers; text of the form [0.1, 0.2] is one."""
    if field is None:
        return F.lit(None).cast("array<float>")
    if isinstance(field.kind, T.ArrayType):
        return field.column.cast("array<float>")
    # What is no list becomes a list of nothing: told from a row that has none.
    parsed = F.coalesce(F.from_json(field.column, T.ArrayType(T.FloatType())), F.array(F.lit(None).cast("float")))
    return F.when(unless_blank(field.column).isNotNull(), parsed)


def _check(listed: DataFrame, section: str, catalogue: CatalogueConfig) -> None:
    """Raises UnreadableInputError for lines that are none, InputMissingError for vectors that are none: in one pass."""
    sizes = [F.size(F.col("vectors")[name]) for name in catalogue.vectors]
    no_numbers = [F.exists(F.col("vectors")[name], _no_number) for name in catalogue.vectors]
    (row,) = listed.agg(
        F.min(F.when(F.col("fault").isNotNull(), F.struct("file", "raw"))).alias("fault"),
        F.array(*map(F.min, sizes)).cast("array<int>").alias("shortest"),
        F.array(*map(F.max, sizes)).cast("array<int>").alias("longest"),
        F.array(*map(F.count_if, no_numbers)).cast("array<bigint>").alias("broken"),
    ).collect()
    if row["fault"] is not None:
        # A line of users may hold ids, which logs may not.
        shown = "" if section == "users" else f": {row['fault']['raw'][:80]}"
        raise UnreadableInputError(row["fault"]["file"], f"a line is damaged{shown}")
    for name, shortest, longest, broken in zip(
        catalogue.vectors, row["shortest"], row["longest"], row["broken"], strict=True
    ):
        where = f"{section}.vectors: column {name!r} in {catalogue.path}"
        if broken:
            raise InputMissingError(f"{where} holds no list of finite numbers in {broken} rows")
        if shortest != longest:
            raise InputMissingError(f"{where} holds lists of {shortest} to {longest} numbers; write all of one length")


def _no_number(value: Column) -> Column:
    return value.isNull() | F.isnan(value) | (F.abs(value) == float("inf"))
