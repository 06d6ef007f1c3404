"""Published probabilities against what happened: all pairs of a night in one pass, counted by narrow bins.

No sort, and no join of two large tables: the pairs that came true are few, so they are broadcast. What leaves
Spark is one row per bin.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from halflife.errors import InputMissingError
from halflife.evaluation.metrics import PROBABILITY_FLOOR, ScoreBins

# Bins are equal steps of the fourth root of the probability: 0.12 % of a score of 1e-4, 0.02 % of one of 0.1. Spark
# takes square roots ten times faster than logarithms.
BINS: Final = 32_768

_PAIR: Final = ("user_id", "item_id")


def positive_pairs(events: DataFrame, since: datetime, horizon_days: float) -> DataFrame:
    """The (user_id, item_id) with a positive event from `since` on, within the horizon; each once."""
    until = since + timedelta(days=horizon_days)
    inside = (F.col("event_time") >= F.lit(since)) & (F.col("event_time") < F.lit(until))
    return events.where(inside & (F.col("strength") > 0)).select(*_PAIR).distinct()


def score_bins(scores: DataFrame, positives: DataFrame) -> ScoreBins:
    """Count one night's pairs (user_id, item_id, score) by score, beside those that came true.

    Two scans, one of the scores alone and one that looks up each pair, cost half of one that does both.
    Raises InputMissingError where there is no pair.
    """
    score = F.col("score").cast("double").alias("score")
    everything = _everything(scores.select(score)).toPandas()
    if everything.empty:
        raise InputMissingError("evaluate: the night's score table is empty")
    came_true = scores.select(*_PAIR, score).join(F.broadcast(positives), on=list(_PAIR), how="inner")
    return _merged(everything, _came_true(came_true).toPandas())


def _everything(scores: DataFrame) -> DataFrame:
    score = F.col("score")
    return scores.groupBy(_bin().alias("bin")).agg(
        F.count(F.lit(1)).alias("pairs"),
        F.sum(score).alias("score_sum"),
        F.sum(score * score).alias("squared_sum"),
        F.sum(_loss_if_not(score)).alias("log_loss_sum"),
    )


def _came_true(scores: DataFrame) -> DataFrame:
    score = F.col("score")
    loss = -F.log(F.greatest(score, F.lit(PROBABILITY_FLOOR)))
    return scores.groupBy(_bin().alias("bin")).agg(
        F.count(F.lit(1)).alias("positives"),
        F.sum(score).alias("positive_score_sum"),
        F.sum(loss - _loss_if_not(score)).alias("more_loss"),
    )


def _loss_if_not(score: Column) -> Column:
    """Log loss of a pair that did not come true; the first pass takes every pair for one."""
    return -F.log(1.0 - F.least(F.greatest(score, F.lit(PROBABILITY_FLOOR)), F.lit(1.0 - PROBABILITY_FLOOR)))


def _bin() -> Column:
    return F.floor(F.sqrt(F.sqrt("score")) * BINS).cast("int")


def _merged(everything: pd.DataFrame, came_true: pd.DataFrame) -> ScoreBins:
    bins = everything.merge(came_true, on="bin", how="left").fillna(0.0).sort_values("bin")
    bins["log_loss_sum"] += bins["more_loss"]
    return ScoreBins(**{name: bins[name].to_numpy(dtype=np.float64) for name in ScoreBins.__dataclass_fields__})
