"""How much an event counts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import mul

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from halflife.config import EventTypeConfig, SourceConfig, StrengthConfig


def with_strength(
    records: DataFrame,
    types: Mapping[str, EventTypeConfig],
    strength: StrengthConfig,
    sources: Mapping[str, SourceConfig],
) -> DataFrame:
    """Add `type_index`, the type's place in the config, and `strength`: its signed weight times three factors.

    Each factor is 1 where its value is missing; `halflife.config.StrengthConfig` says what they are otherwise. A
    negative quantity of a positive type is a return and counts against the item; a negative type always does.
    """
    index, weight = F.lit(None).cast("int"), F.lit(None).cast("double")
    for place, (name, of_type) in reversed(list(enumerate(types.items()))):
        this = F.col("event_type") == name
        index = F.when(this, F.lit(place)).otherwise(index)
        weight = F.when(this, F.lit(float(of_type.weight))).otherwise(weight)
    factors = (_dwell_factor(strength), _rating_factor(strength, sources), _quantity_factor(strength))
    known = [F.coalesce(factor, F.lit(1.0)) for factor in factors]
    returned = (F.col("quantity") < 0) & (F.col("weight") > 0)
    return (
        records.withColumns({"type_index": index, "weight": weight})
        .withColumn("strength", reduce(mul, known, F.when(returned, -F.col("weight")).otherwise(F.col("weight"))))
        .drop("weight")
    )


def _dwell_factor(strength: StrengthConfig) -> Column:
    return F.log2(1 + _capped(F.col("dwell_seconds"), strength.dwell_cap_seconds) / strength.dwell_reference_seconds)


def _rating_factor(strength: StrengthConfig, sources: Mapping[str, SourceConfig]) -> Column:
    at_lowest, at_highest = strength.rating_factors
    factor = F.lit(None).cast("double")
    for name, source in sources.items():
        if source.columns.rating is not None:
            lowest, highest = source.rating_scale
            share = (F.col("rating") - lowest) / (highest - lowest)
            factor = F.when(F.col("source") == name, at_lowest + share * (at_highest - at_lowest)).otherwise(factor)
    return factor


def _quantity_factor(strength: StrengthConfig) -> Column:
    return F.log2(1 + _capped(F.abs("quantity"), strength.quantity_cap))


def _capped(value: Column, cap: float) -> Column:
    """Null stays null: `least` alone would take the cap for it."""
    return F.when(value.isNotNull(), F.least(value, F.lit(cap)))
