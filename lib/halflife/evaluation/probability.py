"""Published probabilities against what happened: one pass over all pairs of a night, counted by narrow bins.

No sort and no join of two large tables: the pairs that came true are few, so they are broadcast. What leaves
Spark is at most one row per bin.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from halflife.errors import InputMissingError
from halflife.evaluation.metrics import PROBABILITY_FLOOR, ScoreBins

# Bins a doubling of the probability: scores of one bin are within 0.14 % of one another.
BINS_PER_OCTAVE: Final = 512
_ZERO_BIN: Final = -(2**30)

_PAIR: Final = ("user_index", "item_index")


def positive_pairs(events: DataFrame, since: datetime, horizon_days: float) -> DataFrame:
    """The (user_index, item_index) with a positive event from `since` on, within the horizon; each once."""
    until = since + timedelta(days=horizon_days)
    inside = (F.col("event_time") >= F.lit(since)) & (F.col("event_time") < F.lit(until))
    return events.where(inside & (F.col("strength") > 0)).select(*_PAIR).distinct()


def score_bins(scores: DataFrame, positives: DataFrame) -> ScoreBins:
    """Count one night's pairs (user_index, item_index, score) by score, beside those that came true.

    Raises InputMissingError where there is no pair.
    """
    happened = positives.select(*_PAIR, F.lit(True).alias("happened"))
    labelled = scores.select(*_PAIR, F.col("score").cast("double").alias("score")).join(
        F.broadcast(happened), on=list(_PAIR), how="left"
    )
    bins = _counted(labelled).orderBy("bin").toPandas().astype(np.float64)
    if bins.empty:
        raise InputMissingError("evaluate: the night's score table is empty")
    return ScoreBins(**{name: bins[name].to_numpy() for name in ScoreBins.__dataclass_fields__})


def _counted(labelled: DataFrame) -> DataFrame:
    score, happened = F.col("score"), F.col("happened").isNotNull()
    missed = -F.log(1.0 - F.least(score, F.lit(1.0 - PROBABILITY_FLOOR)))
    came_true = -F.log(F.greatest(score, F.lit(PROBABILITY_FLOOR)))
    # log2(0) is null in Spark SQL: zeros get a bin of their own below all others.
    score_bin = F.coalesce(F.floor(F.log2(score) * BINS_PER_OCTAVE).cast("int"), F.lit(_ZERO_BIN))
    return labelled.groupBy(score_bin.alias("bin")).agg(
        F.count(F.lit(1)).alias("pairs"),
        F.count_if(happened).alias("positives"),
        F.sum("score").alias("score_sum"),
        F.sum(score * score).alias("squared_sum"),
        F.sum(F.when(happened, score).otherwise(0.0)).alias("positive_score_sum"),
        F.sum(F.when(happened, came_true).otherwise(missed)).alias("log_loss_sum"),
    )
