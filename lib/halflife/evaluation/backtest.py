"""The backtest: for each night, predictions as of D against the events that followed, as one metrics table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, NamedTuple

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from halflife.config import EvaluateConfig
from halflife.errors import InputMissingError
from halflife.evaluation import metrics, probability, protocol, ranking
from halflife.evaluation.ranking import ModelInputs, PublishedLists
from halflife.nights import instant
from halflife.schemas import METRICS

TUNED: Final = "half_life_tuned"
CONSTANT: Final = "constant_rate"


class MetricRow(NamedTuple):
    """One row of METRICS."""

    night: date
    model: str
    segment: str
    metric: str
    value: float
    users: int
    standard_error: float | None


@dataclass(frozen=True)
class PublishedScores:
    """One night's score of every pair (one row is one user_id, item_id, score), its users, and the name to show."""

    name: str
    scores: DataFrame
    users: int
    horizon_days: float


@dataclass(frozen=True)
class Night:
    """One night to judge: its date, and what was published for it. What is None is left out.

    `model` and `lists` are ranked beside the baselines, `scores` are judged as probabilities.
    """

    as_of: date
    model: ModelInputs | None = None
    lists: PublishedLists | None = None
    scores: PublishedScores | None = None


@dataclass(frozen=True)
class Evaluation:
    """The table METRICS, already computed, and the half-life that the validation days chose."""

    metrics: DataFrame
    tuned_half_life_days: float


@dataclass(frozen=True)
class SummaryRow:
    """One model of one night and segment: its metrics by name, and the users they are means of."""

    night: date
    segment: str
    model: str
    users: int
    values: dict[str, float]


def evaluate(
    events: DataFrame,
    nights: Sequence[Night],
    options: EvaluateConfig,
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> Evaluation:
    """Judge each night by `events` (columns of EVENTS), which hold what happened after it too.

    The single half-life is tuned once, on the validation days before the first night. `on_stage` is called
    with a short text when a stage begins. What comes back grows with nights and models, never with users.
    Raises InputMissingError where a night has nothing to be compared with.
    """
    if not nights:
        raise InputMissingError("evaluate: no night was given")
    first = min(night.as_of for night in nights)
    on_stage(f"tuning the single half-life before {first}")
    rows = tune(events, first, options)
    tuned_days = best_half_life(rows, options)
    for night in nights:
        on_stage(f"next baskets after {night.as_of}")
        rows += next_basket_metrics(events, night, tuned_days, options)
        if night.scores is not None:
            on_stage(f"probabilities of {night.as_of}")
            rows += probability_metrics(events, night.as_of, night.scores, options)
    return Evaluation(events.sparkSession.createDataFrame(rows, METRICS), tuned_days)


def tune(events: DataFrame, as_of: date, options: EvaluateConfig) -> list[MetricRow]:
    """Every half-life of the grid on the validation days before `as_of`, as segment `tuning`.

    The protocol again, `validation_days` earlier, so that nothing from `as_of` on is seen.
    """
    cut = Night(as_of - timedelta(days=options.validation_days))
    grid = {_half_life_name(days): days for days in options.half_lives_days}
    return _ranked(events, cut, grid, options, segment="tuning", until=as_of)


def best_half_life(tuning: Iterable[MetricRow], options: EvaluateConfig) -> float:
    """The half-life of the grid with the best NDCG at the first cut-off; the shorter of equals."""
    metric = f"ndcg@{options.cutoffs[0]}"
    values = {row.model: row.value for row in tuning if row.metric == metric}
    return max(sorted(options.half_lives_days), key=lambda days: values[_half_life_name(days)])


def next_basket_metrics(events: DataFrame, night: Night, tuned_days: float, options: EvaluateConfig) -> list[MetricRow]:
    """The next basket after one night: baselines, the model and the published lists."""
    half_lives = {_half_life_name(days): days for days in options.reported_half_lives_days}
    return _ranked(events, night, {TUNED: tuned_days, **half_lives}, options, segment="all")


def probability_metrics(
    events: DataFrame, as_of: date, published: PublishedScores, options: EvaluateConfig
) -> list[MetricRow]:
    """One night's probabilities of all pairs over the horizon, beside one constant rate.

    The constant is the rate of the horizon before the night: all that was known without any model.
    """
    cut = instant(as_of)
    happened = probability.positive_pairs(events, cut, published.horizon_days)
    earlier = probability.positive_pairs(events, cut - timedelta(days=published.horizon_days), published.horizon_days)
    bins = probability.score_bins(published.scores, happened)
    pairs, positives = float(bins.pairs.sum()), float(bins.positives.sum())
    by_model = {
        published.name: metrics.probability_metrics(bins, options.calibration_bins),
        CONSTANT: metrics.constant_metrics(earlier.count() / pairs, pairs, positives, options.calibration_bins),
    }
    return [
        MetricRow(as_of, model, "all", metric, value, published.users, None)
        for model, values in by_model.items()
        for metric, value in values.items()
        if not math.isnan(value)
    ]


def summary(rows: Iterable[MetricRow | Row]) -> list[SummaryRow]:
    """Rows of METRICS as one row per night, segment and model, in the order in which they first appear."""
    found: dict[tuple[date, str, str], SummaryRow] = {}
    for row in rows:
        key = (row.night, row.segment, row.model)
        found.setdefault(key, SummaryRow(*key, users=row.users, values={})).values[row.metric] = row.value
    return list(found.values())


def _ranked(
    events: DataFrame,
    night: Night,
    half_lives_days: Mapping[str, float],
    options: EvaluateConfig,
    segment: str,
    until: date | None = None,
) -> list[MetricRow]:
    """Every ranking of one cut: means over the users with their standard errors, in the order of the rankings."""
    end = instant(until) if until else None
    rows = protocol.basket_rows(events, options.event_types, instant(night.as_of), end).persist()
    try:
        kept = protocol.catalogue(rows, options.min_users_per_item)
        if not kept.item_indices.size:
            raise InputMissingError(
                f"evaluate: before {night.as_of} no item has {options.min_users_per_item} users with events of type"
                f" {', '.join(options.event_types)}: see evaluate.event_types and evaluate.min_users_per_item"
            )
        rankers = ranking.baseline_rankers(kept, half_lives_days, options.cutoffs)
        per_user = ranking.user_metrics(
            protocol.cases(rows, kept),
            kept,
            rankers,
            options.cutoffs,
            options.users_per_block,
            night.model,
            night.lists,
        )
        means = {(row["model"], row["metric"]): row for row in _means(per_user).collect()}
    finally:
        rows.unpersist()
    if not means:
        raise InputMissingError(
            f"evaluate: no user with a history has events of type {', '.join(options.event_types)} from"
            f" {night.as_of} on{f' and before {until}' if until else ''}: nothing to compare with"
        )
    shown = [*rankers, *(part.name for part in (night.model, night.lists) if part)]
    return [
        MetricRow(night.as_of, model, segment, metric, row["value"], row["users"], row["standard_error"])
        for (model, metric), row in sorted(means.items(), key=lambda item: (shown.index(item[0][0]), item[0][1]))
    ]


def _means(per_user: DataFrame) -> DataFrame:
    """USER_METRICS by model and metric: value, users, standard_error."""
    users = F.count(F.lit(1))
    return per_user.groupBy("model", "metric").agg(
        F.mean("value").alias("value"),
        users.alias("users"),
        (F.stddev_samp("value") / F.sqrt(users)).alias("standard_error"),
    )


def _half_life_name(days: float) -> str:
    return f"half_life_{days:g}d"
