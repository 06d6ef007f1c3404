"""Published probabilities against what happened: all pairs of a night in one pass, counted by narrow bins.

No sort, and no join of two large tables: the pairs that came true are few, so they are broadcast. What leaves
Spark is one row per bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from halflife.errors import InputMissingError
from halflife.evaluation.metrics import PROBABILITY_FLOOR, StrengthSums

# Bins are equal steps of the fourth root of the probability: 0.12 % of a score of 1e-4, 0.02 % of one of 0.1. Spark
# takes square roots ten times faster than logarithms.
BINS: Final = 32_768

_PAIR: Final = ("user_id", "item_id")


def positive_events(events: DataFrame, since: datetime, horizon_days: float) -> DataFrame:
    """The positive events from `since` on, within the horizon."""
    until = since + timedelta(days=horizon_days)
    inside = (F.col("event_time") >= F.lit(since)) & (F.col("event_time") < F.lit(until))
    return events.where(inside & (F.col("strength") > 0))


def positive_pairs(events: DataFrame, since: datetime, horizon_days: float) -> DataFrame:
    """The (user_id, item_id) of `positive_events`, each once, with their `strength` added up."""
    return positive_events(events, since, horizon_days).groupBy(*_PAIR).agg(F.sum("strength").alias("strength"))


@dataclass(frozen=True)
class Counted:
    """One night's pairs: `bins`, one row is one (repeat, bin) with the columns of ScoreBins; and sums of strengths."""

    bins: pd.DataFrame
    strengths: StrengthSums


def counted(scores: DataFrame, positives: DataFrame) -> Counted:
    """Count one night's pairs (user_id, item_id, score, affinity, memory) by score, beside those that came true.

    A pair with any memory is a repeat. Two scans, one of the scores alone and one that looks up each pair, cost half of
    one that does both. Raises InputMissingError where there is no pair.
    """
    expected = F.greatest(F.col("affinity").cast("double") + F.col("memory"), F.lit(0.0)).alias("expected")
    known = ((F.col("memory") != 0).alias("repeat"), F.col("score").cast("double").alias("score"), expected)
    everything = _everything(scores.select(*known)).toPandas()
    if everything.empty:
        raise InputMissingError("evaluate: the night's score table is empty")
    came_true = _came_true(_looked_up(scores.select(*_PAIR, *known), positives)).toPandas()
    sums = pd.concat([everything, came_true]).reindex(columns=STRENGTHS).sum()
    strengths = StrengthSums(float(everything["pairs"].sum()), *(float(sums[name]) for name in STRENGTHS))
    return Counted(_merged(everything, came_true), strengths)


def _looked_up(scores: DataFrame, positives: DataFrame) -> DataFrame:
    """The scores of positive pairs, with their strength. One number is looked up faster than two texts."""
    key, pair = F.xxhash64(*_PAIR).alias("key"), F.struct(*_PAIR)
    wanted = F.broadcast(positives.select(key, pair.alias("pair"), "strength"))
    return scores.select("*", key).join(wanted, on="key", how="inner").where(pair == F.col("pair"))


def _everything(scores: DataFrame) -> DataFrame:
    """Every pair taken for one that did not come true."""
    score, nothing = F.col("score"), F.lit(0.0)
    return scores.groupBy("repeat", _bin().alias("bin")).agg(
        F.count(F.lit(1)).alias("pairs"),
        F.sum(score).alias("score_sum"),
        F.sum(score * score).alias("squared_sum"),
        F.sum(_loss(score, nothing)).alias("log_loss_sum"),
        *strength_sums(F.col("expected"), nothing),
    )


def _came_true(scores: DataFrame) -> DataFrame:
    """What the pairs that came true add to that."""
    score, nothing = F.col("score"), F.lit(0.0)
    expected, strength = F.col("expected"), F.col("strength")
    more = zip(strength_sums(expected, strength), strength_sums(expected, nothing), STRENGTHS, strict=True)
    return scores.groupBy("repeat", _bin().alias("bin")).agg(
        F.count(F.lit(1)).alias("positives"),
        F.sum(score).alias("positive_score_sum"),
        F.sum(_loss(score, F.lit(1.0)) - _loss(score, nothing)).alias("more_loss"),
        *((theirs - as_nothing).alias(name) for theirs, as_nothing, name in more),
    )


def weighted_bins(scores: DataFrame, by: Sequence[str]) -> DataFrame:
    """Rows that stand for several pairs (score, pairs, positives) counted by score: the columns of ScoreBins."""
    score, pairs, positives = F.col("score"), F.col("pairs"), F.col("positives")
    loss = positives * _loss(score, F.lit(1.0)) + (pairs - positives) * _loss(score, F.lit(0.0))
    return scores.groupBy(*by, _bin().alias("bin")).agg(
        F.sum(pairs).alias("pairs"),
        F.sum(positives).alias("positives"),
        F.sum(pairs * score).alias("score_sum"),
        F.sum(pairs * score * score).alias("squared_sum"),
        F.sum(positives * score).alias("positive_score_sum"),
        F.sum(loss).alias("log_loss_sum"),
    )


# The sums that errors of strength are made of, in the order of StrengthSums.
STRENGTHS: Final = ["expected", "observed", "expected_squared", "observed_squared", "product", "absolute_error"]


def strength_sums(expected: Column, observed: Column) -> list[Column]:
    """The sums of STRENGTHS over rows."""
    terms = [
        expected,
        observed,
        expected * expected,
        observed * observed,
        expected * observed,
        F.abs(expected - observed),
    ]
    return [F.sum(term).alias(name) for term, name in zip(terms, STRENGTHS, strict=True)]


def _loss(score: Column, came_true: Column) -> Column:
    """Log loss of pairs that all came true (1) or all did not (0)."""
    clipped = F.least(F.greatest(score, F.lit(PROBABILITY_FLOOR)), F.lit(1.0 - PROBABILITY_FLOOR))
    return -F.log(came_true * clipped + (1.0 - came_true) * (1.0 - clipped))


def _bin() -> Column:
    return F.floor(F.sqrt(F.sqrt("score")) * BINS).cast("int")


def _merged(everything: pd.DataFrame, came_true: pd.DataFrame) -> pd.DataFrame:
    known = ["repeat", "bin", "positives", "positive_score_sum", "more_loss"]
    bins = everything.merge(came_true[known], on=["repeat", "bin"], how="left").fillna(0.0)
    bins["log_loss_sum"] += bins["more_loss"]
    return bins
