"""Baselines that are probabilities: rates of events, fitted to what happened just before the night.

One family: a pair expects memory * x + popularity * X + constant events within the horizon, where x is its own decayed
strength at the tuned half-life and X the sum of x over the item's users; the probability is that of at least one of
them. `constant_rate` has the constant alone, `popularity` no memory, `half_life_tuned` all three. The weights are those
of the highest likelihood at the cut one horizon earlier, so nothing from the night on is seen.

Pairs without an event have no row anywhere: the sums over all pairs follow from those of users, items and known pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from halflife.decay import SECONDS_PER_DAY
from halflife.evaluation import probability
from halflife.evaluation.metrics import ScoreBins, StrengthSums

Floats = NDArray[np.float64]

COMPONENTS: Final = ("memory", "popularity", "constant")
# Which components each baseline has.
LAWS: Final = {
    "constant_rate": np.array([0.0, 0.0, 1.0]),
    "popularity": np.array([0.0, 1.0, 1.0]),
    "half_life_tuned": np.array([1.0, 1.0, 1.0]),
}
ROUNDS: Final = 200
# Steps of the positives' logarithms (base 2): what is collected of them is a few thousand rows at any scale.
STEPS: Final = 8


@dataclass(frozen=True)
class Universe:
    """All pairs of a night: the indices of its users and items lie below these numbers; `users` are those scored."""

    user_indices: int
    item_indices: int
    users: int

    @property
    def pairs(self) -> float:
        """How many pairs there are."""
        return float(self.users * self.item_indices)


@dataclass(frozen=True)
class Outcome:
    """What was known at a cut and what followed, for a half-life.

    `pairs`: one row is one (user, item) with an event before the cut or a positive one within the horizon: user_index,
    item_index, x, strength (of what followed, 0 for nothing), known (whether there was an event before). `items`: one
    row is one item of the universe: item_index, popularity.
    """

    pairs: DataFrame
    items: DataFrame


def outcome(events: DataFrame, cut: datetime, horizon_days: float, half_life_days: float, within: Universe) -> Outcome:
    """Collect, for all pairs of the universe, what `events` say of a cut; `pairs` is persisted for all who ask."""
    until = cut + timedelta(days=horizon_days)
    before = F.col("event_time") < F.lit(cut)
    age_days = (F.lit(cut.timestamp()) - F.unix_micros("event_time") / F.lit(1e6)) / SECONDS_PER_DAY
    decayed = F.col("strength") * F.pow(F.lit(2.0), -age_days / half_life_days)
    inside = events.where(
        (F.col("event_time") < F.lit(until))
        & (F.col("user_index") < within.user_indices)
        & (F.col("item_index") < within.item_indices)
    )
    pairs = (
        inside.groupBy("user_index", "item_index")
        .agg(
            F.greatest(F.sum(F.when(before, decayed).otherwise(0.0)), F.lit(0.0)).alias("x"),
            F.sum(F.when(before, 0.0).otherwise(F.greatest("strength", F.lit(0.0)))).alias("strength"),
            F.max(before).alias("known"),
        )
        .persist()
    )
    totals = pairs.groupBy("item_index").agg(F.sum("x").alias("total"))
    every = events.sparkSession.range(within.item_indices).select(F.col("id").cast("int").alias("item_index"))
    popularity = F.coalesce("total", F.lit(0.0)).alias("popularity")
    return Outcome(pairs, every.join(totals, on="item_index", how="left").select("item_index", popularity))


def fit(before: Outcome, within: Universe, names: Sequence[str]) -> dict[str, Floats]:
    """The most likely weights (memory, popularity, constant) of each baseline; zero where it lacks a component."""
    known = before.pairs.agg(F.sum("x")).first()
    popular = before.items.agg(F.sum("popularity")).first()
    assert known is not None
    assert popular is not None  # a sum without groups has one row
    totals = np.array([known[0] or 0.0, (popular[0] or 0.0) * within.users, within.pairs])
    positives = _positives(before).toPandas()
    count = positives["count"].to_numpy(dtype=np.float64)
    seen = np.stack([positives["x"], positives["popularity"], np.ones(len(positives))], axis=1).astype(np.float64)
    return {name: most_likely(seen, count, totals, LAWS[name]) for name in names}


def most_likely(seen: Floats, count: Floats, totals: Floats, has: Floats) -> Floats:
    """Weights w (K,) that maximise the likelihood of 1 - exp(-c w) over pairs with components c, by expectation and
    maximisation: each round shares out the events that came true among the components that expected them.

    seen (n, K) are the components of pairs that came true, each `count` (n,) times; totals (K,) the sums over all
    pairs; has (K,) is 0 for components that stay out.
    """
    if not count.sum():
        return np.zeros(totals.size)
    used: Floats = has * (totals > 0)
    weights: Floats = used * count.sum() / np.maximum(totals, 1.0) / used.sum()
    for _ in range(ROUNDS):
        expected = seen @ weights
        happened = count / -np.expm1(-np.maximum(expected, np.finfo(np.float64).tiny))
        weights = weights * (happened @ seen) / np.where(used > 0, totals, 1.0)
    return weights


def _positives(before: Outcome) -> DataFrame:
    """The pairs that came true, gathered by size of both components: x and popularity (means), count."""

    def size(column: str) -> Column:
        return F.when(F.col(column) > 0, F.floor(F.log2(column) * STEPS))

    came_true = before.pairs.where(F.col("strength") > 0).join(before.items, on="item_index", how="inner")
    means = (F.avg(name).alias(name) for name in ("x", "popularity"))
    return came_true.groupBy(size("x"), size("popularity")).agg(*means, F.count(F.lit(1)).alias("count"))


def score_bins(at: Outcome, weights: dict[str, Floats], within: Universe) -> pd.DataFrame:
    """All pairs counted by score: one row is one (model, repeat, bin), with the columns of ScoreBins."""
    came_true = (F.col("strength") > 0).cast("double").alias("positives")
    pairs = at.pairs.join(at.items, on="item_index", how="inner")
    with_rows = pairs.select(F.lit(1.0).alias("pairs"), "x", "popularity", came_true, F.col("known").alias("repeat"))
    counted = at.pairs.groupBy("item_index").agg(F.count(F.lit(1)).alias("counted"))
    others = F.lit(within.users) - F.coalesce("counted", F.lit(0))
    without = at.items.join(counted, on="item_index", how="left").select(
        others.cast("double").alias("pairs"),
        F.lit(0.0).alias("x"),
        "popularity",
        F.lit(0.0).alias("positives"),
        F.lit(False).alias("repeat"),
    )
    expected = F.explode(F.array(*(_expected(name, each) for name, each in weights.items()))).alias("of")
    everything = with_rows.unionByName(without).select("*", expected)
    score = (-F.expm1(-F.col("of.expected"))).alias("score")
    scored = everything.select(F.col("of.model").alias("model"), "repeat", "pairs", "positives", score)
    return probability.weighted_bins(scored, ["model", "repeat"]).toPandas()


def _expected(model: str, weights: Floats) -> Column:
    memory, popularity, constant = (float(weight) for weight in weights)
    expected = F.col("x") * memory + F.col("popularity") * popularity + constant
    return F.struct(F.lit(model).alias("model"), expected.alias("expected"))


def bins_of(counted: pd.DataFrame) -> ScoreBins:
    """The rows of one model and segment as ScoreBins; equal bins need not be merged, but are in order."""
    ordered = counted.sort_values("bin").groupby("bin", sort=True).sum(numeric_only=True)
    return ScoreBins(**{name: ordered[name].to_numpy(dtype=np.float64) for name in ScoreBins.__dataclass_fields__})


def strengths(before: Outcome, at: Outcome, within: Universe) -> StrengthSums:
    """The half-life's decayed strength as a forecast of what follows, times the one factor that fits best before."""
    x, y = F.col("x"), F.col("strength")
    fitted = before.pairs.agg(F.sum(x * y), F.sum(x * x)).first()
    assert fitted is not None  # a sum without groups has one row
    factor = F.lit(float(fitted[0] / fitted[1]) if fitted[1] else 0.0)
    sums = at.pairs.agg(*probability.strength_sums(x * factor, y)).first()
    assert sums is not None
    return StrengthSums(within.pairs, *(float(value or 0.0) for value in sums))


def segments(counted: pd.DataFrame, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """All rows, those of repeats and those of the others, by the given names."""
    everything, repeat, new = names
    return {everything: counted, repeat: counted[counted["repeat"]], new: counted[~counted["repeat"]]}
