"""The backtest: for each night, predictions as of D against the events that followed, as one metrics table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife.config import EvaluateConfig
from halflife.errors import InputMissingError
from halflife.evaluation import metrics, probability, protocol, ranking
from halflife.evaluation.ranking import ModelInputs, PublishedLists

# One row is one (as_of, model, segment, metric): the mean over `users` users, and its standard error where the
# users' values are independent draws. Segment `all` holds every user; `tuning` is the validation before the cut.
METRICS: Final = T.StructType(
    [
        T.StructField("as_of", T.DateType(), False),
        T.StructField("model", T.StringType(), False),
        T.StructField("segment", T.StringType(), False),
        T.StructField("metric", T.StringType(), False),
        T.StructField("value", T.DoubleType(), False),
        T.StructField("users", T.LongType(), False),
        T.StructField("standard_error", T.DoubleType(), True),
    ]
)

TUNED: Final = "half_life_tuned"
CONSTANT: Final = "constant_rate"


@dataclass(frozen=True)
class Night:
    """One night to judge: its date, and what was published for it. What is None is left out.

    `scores` holds every pair: user_index, item_index, score. `model` and `lists` are ranked beside the baselines.
    """

    as_of: date
    model: ModelInputs | None = None
    lists: PublishedLists | None = None
    scores: DataFrame | None = None
    scores_name: str = "halflife"


@dataclass(frozen=True)
class Evaluation:
    """The metrics table (METRICS), and the half-life that the validation weeks chose."""

    metrics: DataFrame
    tuned_half_life_days: float


@dataclass(frozen=True)
class SummaryRow:
    """One model of one night and segment: its metrics by name, and the users they are means of."""

    as_of: date
    segment: str
    model: str
    users: int
    values: dict[str, float]


def evaluate(
    events: DataFrame,
    nights: Sequence[Night],
    options: EvaluateConfig,
    horizon_days: float,
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> Evaluation:
    """Judge each night by `events`, which hold what happened after it too.

    The single half-life is tuned once, on the validation days before the first night. `on_stage` is called
    with a short text when a stage begins. Raises InputMissingError where a night has nothing to compare with.
    """
    if not nights:
        raise InputMissingError("evaluate: no night was given")
    first = min(night.as_of for night in nights)
    on_stage(f"tuning the single half-life before {first}")
    tuning = tune(events, first, options)
    tuned_days = best_half_life(tuning, options)
    tables = [tuning]
    for night in nights:
        on_stage(f"next baskets after {night.as_of}")
        tables.append(next_basket_metrics(events, night, tuned_days, options))
        if night.scores is not None:
            on_stage(f"probabilities of {night.as_of}")
            tables.append(probability_metrics(events, night, night.scores, horizon_days, options))
    return Evaluation(reduce(DataFrame.unionByName, tables), tuned_days)


def tune(events: DataFrame, as_of: date, options: EvaluateConfig) -> DataFrame:
    """METRICS of every half-life of the grid on the validation days before `as_of`, as segment `tuning`.

    The protocol again, `validation_days` earlier, so that nothing from `as_of` on is seen.
    """
    cut = as_of - timedelta(days=options.validation_days)
    grid = {_half_life_name(days): days for days in options.half_lives_days}
    return _ranked(events, Night(cut), grid, options, segment="tuning", until=as_of)


def best_half_life(tuning: DataFrame, options: EvaluateConfig) -> float:
    """The half-life of the grid with the best NDCG at the first cut-off; the shorter of equals."""
    metric = f"ndcg@{options.cutoffs[0]}"
    values = {row["model"]: row["value"] for row in tuning.where(F.col("metric") == metric).collect()}
    return max(sorted(options.half_lives_days), key=lambda days: values[_half_life_name(days)])


def next_basket_metrics(events: DataFrame, night: Night, tuned_days: float, options: EvaluateConfig) -> DataFrame:
    """METRICS of the next basket after one night: baselines, the model and the published lists."""
    half_lives = {_half_life_name(days): days for days in options.reported_half_lives_days}
    return _ranked(events, night, {TUNED: tuned_days, **half_lives}, options, segment="all")


def probability_metrics(
    events: DataFrame, night: Night, scores: DataFrame, horizon_days: float, options: EvaluateConfig
) -> DataFrame:
    """METRICS of one night's probabilities of all pairs over the horizon, beside one constant rate.

    The constant is the rate of the horizon before the night: all that was known without any model.
    """
    cut = protocol.instant(night.as_of)
    happened = probability.positive_pairs(events, cut, horizon_days)
    earlier = probability.positive_pairs(events, cut - timedelta(days=horizon_days), horizon_days)
    bins = probability.score_bins(scores, happened)
    pairs, positives = float(bins.pairs.sum()), float(bins.positives.sum())
    rate = earlier.count() / pairs
    by_model = {
        night.scores_name: metrics.probability_metrics(bins, options.calibration_bins),
        CONSTANT: metrics.constant_metrics(rate, pairs, positives, options.calibration_bins),
    }
    by_model[night.scores_name] |= {"pairs": pairs, "positives": positives}
    users = scores.agg(F.count_distinct("user_index")).collect()[0][0]
    rows = [
        (night.as_of, model, "all", metric, value, users, None)
        for model, values in by_model.items()
        for metric, value in values.items()
        if not math.isnan(value)
    ]
    return scores.sparkSession.createDataFrame(rows, METRICS)


def summary(rows: Iterable[T.Row]) -> list[SummaryRow]:
    """Rows of METRICS as one row per night, segment and model, in the order in which they first appear."""
    tables: dict[tuple[date, str, str], SummaryRow] = {}
    for row in rows:
        key = (row["as_of"], row["segment"], row["model"])
        found = tables.setdefault(key, SummaryRow(*key, users=row["users"], values={}))
        found.values[row["metric"]] = row["value"]
    return list(tables.values())


def _ranked(
    events: DataFrame,
    night: Night,
    half_lives_days: dict[str, float],
    options: EvaluateConfig,
    segment: str,
    until: date | None = None,
) -> DataFrame:
    """METRICS of every ranking of one cut."""
    cut = protocol.instant(night.as_of)
    kept = protocol.catalogue(events, options.event_types, cut, options.min_users_per_item)
    cases = protocol.cases(events, options.event_types, cut, kept, until=protocol.instant(until) if until else None)
    rankers = ranking.baseline_rankers(kept, half_lives_days, options.cutoffs)
    per_user = ranking.user_metrics(
        cases, kept, rankers, options.cutoffs, options.users_per_block, night.model, night.lists
    )
    return _means(per_user, night.as_of, segment)


def _means(per_user: DataFrame, as_of: date, segment: str) -> DataFrame:
    """USER_METRICS to METRICS: means over the users, with the standard error of each mean."""
    return (
        per_user.groupBy("model", "metric")
        .agg(
            F.mean("value").alias("value"),
            F.count(F.lit(1)).alias("users"),
            (F.stddev_samp("value") / F.sqrt(F.count(F.lit(1)))).alias("standard_error"),
        )
        .select(
            F.lit(as_of).alias("as_of"),
            "model",
            F.lit(segment).alias("segment"),
            "metric",
            "value",
            "users",
            "standard_error",
        )
    )


def _half_life_name(days: float) -> str:
    return f"half_life_{days:g}d"
