"""The features of items: what the catalogue says of them, and their categories as numbers."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from halflife import schemas
from halflife.transformations.indexes import number

OF_CATALOGUE = ("title", "category", "features", "vectors")


def unknown(items: DataFrame) -> DataFrame:
    """Items (item_index, item_id) in the columns of `schemas.ITEMS`, with nothing known of them."""
    nothing = {field.name: F.lit(None).cast(field.dataType) for field in schemas.ITEMS if field.nullable}
    return items.withColumns(nothing).select(*schemas.ITEMS.names)


def refreshed(old: DataFrame | None, new: DataFrame, listed: DataFrame) -> DataFrame:
    """All items with the features of the catalogue; of an item that it does not list, those from before."""
    items = unknown(new) if old is None else old.unionByName(unknown(new))
    fresh = listed.select("item_id", F.lit(True).alias("listed"), *(F.col(n).alias(f"new_{n}") for n in OF_CATALOGUE))
    joined = items.join(fresh, on="item_id", how="left")
    columns = {name: F.when(F.col("listed"), F.col(f"new_{name}")).otherwise(F.col(name)) for name in OF_CATALOGUE}
    return _with_category_index(joined.withColumns(columns), old).select(*schemas.ITEMS.names)


def _with_category_index(items: DataFrame, old: DataFrame | None) -> DataFrame:
    """Number the categories: new ones in their order, behind those that `old` has numbered."""
    categories = items.select("category").where(F.col("category").isNotNull()).distinct()
    start, known = 0, None
    if old is not None:
        known = old.where(F.col("category").isNotNull()).select("category", "category_index").distinct()
        last = known.agg(F.max("category_index")).first()
        start = 0 if last is None or last[0] is None else last[0] + 1
        categories = categories.join(known, on="category", how="left_anti")
    unseen = categories.select(F.lit(None).cast("date").alias("first_day"), "category")
    numbers = number(unseen, "category", "category_index", start)
    numbers = numbers if known is None else known.unionByName(numbers.select(*known.columns))
    return items.drop("category_index").join(numbers, on="category", how="left")
