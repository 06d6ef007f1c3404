"""Baselines that are probabilities: rates of events, fitted to what happened just before the night.

One family: a pair expects memory * x + popularity * X + constant events within the horizon, where x is its own decayed
strength at the tuned half-life and X the sum of x over the item's users; the probability is that of at least one of
them. `constant_rate` has the constant alone, `popularity` no memory, `half_life_tuned` all three. The weights are those
of the highest likelihood at the cut one horizon earlier, so nothing from the night on is seen.

Pairs without an event have no row anywhere: the sums over all pairs follow from those of users, items and known pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife import decay
from halflife.decay import SECONDS_PER_DAY
from halflife.evaluation import probability
from halflife.evaluation.segments import ALL, REPEAT_ITEM
from halflife.evaluation.tally import EVERYONE, KEY, SUMS, merged, tally, times

Floats = NDArray[np.float64]

COMPONENTS: Final = ("memory", "popularity", "constant")
HALF_LIFE: Final = "half_life_tuned"
# Which components each baseline has.
LAWS: Final = {
    "constant_rate": np.array([0.0, 0.0, 1.0]),
    "popularity": np.array([0.0, 1.0, 1.0]),
    HALF_LIFE: np.array([1.0, 1.0, 1.0]),
}
ROUNDS: Final = 200
# Steps of the positives' logarithms (base 2): what is collected of them is a few thousand rows at any scale.
STEPS: Final = 8
# Of pairs that a worker counts: fewer cost more, as each count has its own cost, and more of them memory (140 MB).
ROWS_AT_ONCE: Final = 1 << 20


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
    item_index, their ids, x, strength (of what followed, 0 for nothing), known (whether there was an event before).
    `items`: one row is one item of the universe: item_index, popularity.
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
            F.first("user_id").alias("user_id"),
            F.first("item_id").alias("item_id"),
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


def forecast_factor(before: Outcome) -> float:
    """What decayed strength has to be multiplied with to forecast what follows: the best fit to the cut before."""
    x, y = F.col("x"), F.col("strength")
    fitted = before.pairs.agg(F.sum(x * y), F.sum(x * x)).first()
    assert fitted is not None  # a sum without groups has one row
    return float(fitted[0] / fitted[1]) if fitted[1] else 0.0


def tallied(at: Outcome, weights: Mapping[str, Floats], factor: float, users: DataFrame) -> dict[str, pd.DataFrame]:
    """All pairs counted, as `probability.tallied` does, for each baseline by its weights; the strength that it expects
    is x times `factor`. `users`: one row is one scored user_index with its bucket.

    A pair without an event has no row: all pairs are taken for such first, then those with a row are put right.
    """

    def count(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for rows in _gathered(batches, ROWS_AT_ONCE):
            by_bucket = rows.sort_values("bucket")
            for name, of in weights.items():
                yield _counted(by_bucket, of, factor).assign(model=name)

    schema = T.StructType([*probability.TALLIED, T.StructField("model", T.StringType(), False)])
    rows = at.pairs.join(at.items, on="item_index", how="inner").join(users, on="user_index", how="inner")
    columns = ("bucket", "x", "popularity", "strength", "known")
    sums = [F.sum(name).alias(name) for name in SUMS]
    counted = rows.select(*columns).mapInPandas(count, schema).groupBy("model", "segment", *KEY).agg(*sums).toPandas()
    popularity = at.items.select("popularity").toPandas()["popularity"].to_numpy()
    in_bucket = users.groupBy("bucket").count().toPandas()
    found = {}
    for name, of in weights.items():
        nothing = np.zeros_like(popularity)
        one_user = tally(_probability(of, nothing, popularity), nothing, nothing, nothing.astype(np.int64))
        unknown = _of_all_users(one_user, in_bucket).assign(segment=ALL)
        found[name] = merged(pd.concat([unknown, counted[counted["model"] == name]]), ("segment",))
    return found


def _gathered(batches: Iterable[pd.DataFrame], rows: int) -> Iterator[pd.DataFrame]:
    """Batches put together until they hold so many rows."""
    waiting: list[pd.DataFrame] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= rows:
            yield pd.concat(waiting)
            waiting = []
    if waiting:
        yield pd.concat(waiting)


def _counted(rows: pd.DataFrame, of: Floats, factor: float) -> pd.DataFrame:
    """Pairs that have a row, less what they count as pairs without one."""
    bucket = rows["bucket"].to_numpy(dtype=np.int64)
    x, popularity, strength = (rows[name].to_numpy() for name in ("x", "popularity", "strength"))
    known, nothing = rows["known"].to_numpy(dtype=np.bool_), np.zeros_like(x)
    with_row = (_probability(of, x, popularity), x * factor, strength, bucket)
    parts = [
        tally(*with_row).assign(segment=ALL),
        times(tally(_probability(of, nothing, popularity), nothing, nothing, bucket), -1.0).assign(segment=ALL),
        tally(*(values[known] for values in with_row)).assign(segment=REPEAT_ITEM),
    ]
    return merged(pd.concat(parts), ("segment",))


def _probability(of: Floats, x: Floats, popularity: Floats) -> Floats:
    """What a baseline with the weights `of` foretells of pairs: below one however much it expects, as a tally asks."""
    memory, popular, constant = of
    return decay.probability(x * memory + popularity * popular + constant).astype(np.float64)


def _of_all_users(one: pd.DataFrame, in_bucket: pd.DataFrame) -> pd.DataFrame:
    """The tally of one user, in bucket 0, as that of so many in each bucket."""
    everyone = times(one[one["bucket"] == EVERYONE], in_bucket["count"].sum())
    by_bucket = one[one["bucket"] != EVERYONE].drop(columns="bucket").merge(in_bucket, how="cross")
    by_bucket[list(SUMS)] = by_bucket[list(SUMS)].mul(by_bucket["count"], axis=0)
    return pd.concat([everyone, by_bucket.drop(columns="count")])
