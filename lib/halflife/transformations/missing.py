"""Dwell and rating where a record lacks them and its source has them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from math import ceil, log10
from operator import add

from pyspark.ml.functions import array_to_vector
from pyspark.ml.regression import LinearRegression
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from halflife.config import MissingConfig, SessionizeConfig, SourceConfig
from halflife.transformations.cleaning import arrival
from halflife.transformations.joins import with_few

# What a group is made of, the narrowest first: where one knows nothing, the next is asked.
GROUPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "item": (("item_id",), ("event_type",), ()),
    "event_type": (("event_type",), ()),
    "all": ((),),
}
# Rows that a regression of one source and day is fitted on: a sample, so that one task can hold and sort it.
FIT_ROWS = 10_000
RIDGE = 1e-4  # keeps columns apart that say the same
DOUBLE_DIGITS = 15  # decimal digits that a double always holds


@dataclass(frozen=True)
class _Part:
    """One of the two columns: what is to be done with it, and the bounds of its values in each source that has it."""

    column: str
    imputed: str
    reason: str
    config: MissingConfig
    bounds: dict[str, tuple[float, float]]

    @property
    def value(self) -> Column:
        return F.col(self.column)

    @property
    def estimate(self) -> str:
        return f"{self.column}_estimate"

    def of_sources(self) -> Column:
        return F.col("source").isin(*self.bounds) if self.bounds else F.lit(False)

    def lacking(self) -> Column:
        return F.col("reason").isNull() & self.value.isNull() & self.of_sources()

    def known(self, frame: DataFrame) -> DataFrame:
        return frame.where(F.col("reason").isNull() & self.value.isNotNull() & self.of_sources())


def fill(
    judged: DataFrame, config: SessionizeConfig, sources: Mapping[str, SourceConfig], types: Collection[str]
) -> DataFrame:
    """Treat what accepted records lack as the config says; adds `dwell_imputed` and `rating_imputed`.

    Dropped records get the reason `missing_dwell` or `missing_rating`. Estimates come from the accepted records of the
    same source and day of arrival alone, so that a later night never changes them, and from the values as they were
    logged. They are the same to the last bit in whatever order the records come.
    """
    parts = _parts(config, sources)
    frame = reduce(_drop, (part for part in parts if part.config.strategy == "drop"), judged)
    filled = [part for part in parts if part.config.strategy in ("mean", "median", "model")]
    if filled:
        frame = frame.withColumn("arrived", arrival())
        for part in filled:
            by_model = part.config.strategy == "model"
            frame = _by_model(frame, part, types) if by_model else _by_group(frame, part)
    columns = {part.imputed: F.lit(False) for part in parts}
    for part in filled:
        estimate = F.col(part.estimate)
        columns[part.column] = F.when(part.lacking(), estimate).otherwise(part.value)
        columns[part.imputed] = part.lacking() & estimate.isNotNull()
    return frame.withColumns(columns).drop("arrived", *(part.estimate for part in filled))


def _parts(config: SessionizeConfig, sources: Mapping[str, SourceConfig]) -> tuple[_Part, _Part]:
    dwell = {
        name: (0.0, config.max_dwell_seconds)
        for name, source in sources.items()
        if source.columns.dwell_seconds is not None
    }
    rating = {name: source.rating_scale for name, source in sources.items() if source.columns.rating is not None}
    return (
        _Part("dwell_seconds", "dwell_imputed", "missing_dwell", config.missing_dwell, dwell),
        _Part("rating", "rating_imputed", "missing_rating", config.missing_rating, rating),
    )


def _drop(frame: DataFrame, part: _Part) -> DataFrame:
    return frame.withColumn("reason", F.when(part.lacking(), part.reason).otherwise(F.col("reason")))


def _by_group(frame: DataFrame, part: _Part) -> DataFrame:
    """Add the mean or median of the narrowest group that knows one."""
    known, summarise = part.known(frame), _means if part.config.strategy == "mean" else _medians
    estimates = []
    for group in GROUPS[part.config.by]:
        key = ["source", "arrived", *group]
        estimates.append("_".join((part.estimate, *group)) if group else f"{part.estimate}_all")
        frame = with_few(frame, summarise(known, part, key, estimates[-1]), on=key)
    return frame.withColumn(part.estimate, F.coalesce(*estimates)).drop(*estimates)


def _means(known: DataFrame, part: _Part, key: list[str], name: str) -> DataFrame:
    """The mean of each group by exact sums of whole numbers: a sum of doubles depends on their order."""
    largest = max((abs(bound) for bounds in part.bounds.values() for bound in bounds), default=1.0)
    units = 10.0 ** (DOUBLE_DIGITS - ceil(log10(largest)))
    total = F.sum(F.round(part.value * units).cast("bigint").cast("decimal(20,0)"))
    return known.groupBy(*key).agg((total.cast("double") / (F.count(part.value) * F.lit(units))).alias(name))


def _medians(known: DataFrame, part: _Part, key: list[str], name: str) -> DataFrame:
    """The median of each group: the mean of the one or two values in its middle.

    By sorting, as Spark's own median holds all values of a group in memory.
    """
    in_order = Window.partitionBy(*key).orderBy(part.column)
    ranked = (
        known.groupBy(*key, part.column)
        .agg(F.count(F.lit(1)).alias("equal"))
        .withColumn("until", F.sum("equal").over(in_order))
        .withColumn("values", F.sum("equal").over(Window.partitionBy(*key)))
    )
    before, middle = F.col("until") - F.col("equal"), F.col("values") / 2
    halves = ranked.where((before <= middle) & (F.col("until") >= middle))
    return halves.groupBy(*key).agg(((F.min(part.column) + F.max(part.column)) / 2).alias(name))


def _by_model(frame: DataFrame, part: _Part, types: Collection[str]) -> DataFrame:
    """Add what a linear regression of the source and day predicts from the other columns."""
    features = _features(part, types)
    models = _fit(part, features, part.known(frame))
    spark, key = frame.sparkSession, ["source", "arrived"]
    table = spark.createDataFrame(models, "source string, arrived date, intercept double, coefficients array<double>")
    terms = (F.get("coefficients", F.lit(place)) * feature for place, feature in enumerate(features))
    estimate = F.when(part.lacking(), _within_bounds(part, reduce(add, terms, F.col("intercept"))))
    return with_few(frame, table, on=key).withColumn(part.estimate, estimate).drop("intercept", "coefficients")


def _fit(part: _Part, features: list[Column], known: DataFrame) -> list[tuple[object, ...]]:
    """(source, arrival day, intercept, coefficients) of a regression for each source and day.

    Each is fitted on a sample by a digest of its rows, in one partition and in the order of the digest: sums of
    doubles depend on their order.
    """
    digest = F.xxhash64("user_id", "item_id", "event_type", "event_time", "dwell_seconds", "rating", "quantity")
    label = F.log1p(part.column) if part.column == "dwell_seconds" else part.value
    rows = known.select(
        "source", "arrived", label.alias("label"), F.array(*features).alias("features"), digest.alias("digest")
    )
    of_day = Window.partitionBy("source", "arrived").orderBy("digest", "label", "features")
    sample = rows.withColumn("place", F.row_number().over(of_day)).where(F.col("place") <= FIT_ROWS).cache()
    models: list[tuple[object, ...]] = []
    regression = LinearRegression(featuresCol="features", labelCol="label", solver="normal", regParam=RIDGE)
    for source, day in sorted(map(tuple, sample.select("source", "arrived").distinct().collect())):
        of_this = sample.where((F.col("source") == source) & (F.col("arrived") == F.lit(day)))
        ordered = of_this.coalesce(1).sortWithinPartitions("place")
        model = regression.fit(ordered.select("label", array_to_vector(F.col("features")).alias("features")))
        models.append((source, day, float(model.intercept), [float(number) for number in model.coefficients]))
    sample.unpersist()
    return models


def _features(part: _Part, types: Collection[str]) -> list[Column]:
    """Type, hour and weekday as indicators; the other column and the quantity, each with whether it is there."""
    other = F.col("rating") if part.column == "dwell_seconds" else F.log1p("dwell_seconds")
    indicators = [
        *(F.col("event_type") == name for name in types),
        *(F.hour("event_time") == hour for hour in range(24)),
        *(F.weekday("event_time") == day for day in range(7)),
        other.isNotNull(),
        F.col("quantity").isNotNull(),
    ]
    numbers = (F.coalesce(number, F.lit(0.0)) for number in (other, F.col("quantity")))
    return [*(indicator.cast("double") for indicator in indicators), *numbers]


def _within_bounds(part: _Part, prediction: Column) -> Column:
    value = F.expm1(prediction) if part.column == "dwell_seconds" else prediction
    clipped = F.lit(None).cast("double")
    for name, (lowest, highest) in part.bounds.items():
        inside = F.least(F.greatest(value, F.lit(lowest)), F.lit(highest))
        clipped = F.when(F.col("source") == name, inside).otherwise(clipped)
    return F.when(value.isNotNull(), clipped)  # `greatest` alone would take the bound for a null
