"""The backtest: for each night, predictions as of D against the events that followed, as one metrics table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from pyspark.sql import DataFrame

from halflife.config import EvaluateConfig
from halflife.errors import InputMissingError
from halflife.evaluation import contest, estimates, every_pair, metrics, protocol, ranking, revival
from halflife.evaluation.contest import Known, Setting
from halflife.evaluation.every_pair import PublishedScores
from halflife.evaluation.ranking import ModelInputs, PublishedLists
from halflife.evaluation.rates import HALF_LIFE
from halflife.evaluation.revival import Revivals
from halflife.evaluation.rows import MetricRow
from halflife.evaluation.segments import ALL
from halflife.nights import instant
from halflife.schemas import METRICS

TUNING: Final = "tuning"


@dataclass(frozen=True)
class Night:
    """One night to judge: its date, its horizon, and what was published for it. What is None is left out.

    `model` and `lists` are ranked beside the baselines, `scores` are judged as probabilities and as strengths.
    """

    as_of: date
    horizon_days: float
    model: ModelInputs | None = None
    lists: PublishedLists | None = None
    scores: PublishedScores | None = None
    revivals: Revivals | None = None

    @property
    def cut(self) -> datetime:
        """Everything before it is known, nothing after it."""
        return instant(self.as_of)


@dataclass(frozen=True)
class Evaluation:
    """The table METRICS, and the setting of each baseline that the validation days chose."""

    rows: Sequence[MetricRow]
    tuned: Mapping[str, Setting]

    @property
    def tuned_half_life_days(self) -> float | None:
        """The single half-life that was chosen, or None where it is no baseline of the run."""
        chosen = self.tuned.get(HALF_LIFE)
        return None if chosen is None else chosen.half_life_days

    def table(self, like: DataFrame) -> DataFrame:
        """The rows as METRICS, in the session of `like`."""
        columns = [tuple(getattr(row, name) for name in METRICS.names) for row in self.rows]
        return like.sparkSession.createDataFrame(columns, METRICS)


Stage = Callable[[str], AbstractContextManager[None]]


def evaluate(
    events: DataFrame, nights: Sequence[Night], options: EvaluateConfig, stage: Stage = lambda _name: nullcontext()
) -> Evaluation:
    """Judge each night by `events` (columns of EVENTS), which hold what happened after it too.

    The baselines are tuned once, on the validation days before the first night. `stage` is entered with a short name
    for each part of the work. What comes back grows with nights, models and segments, never with users.
    Raises InputMissingError where a night has nothing to be compared with.
    """
    if not nights:
        raise InputMissingError("evaluate: no night was given")
    first = min(nights, key=lambda night: night.as_of)
    with stage("tuning"):
        rows, tuned = tune(events, first, options)
    for night in nights:
        with stage(f"rankings {night.as_of}"):
            rows += ranking_metrics(events, night, tuned, options)
        if night.scores is not None:
            with stage(f"probabilities {night.as_of}"):
                rows += _of_every_pair(events, night, night.scores, tuned, options)
        if night.revivals is not None:
            with stage(f"revivals {night.as_of}"):
                rows += revival_metrics(events, night, night.revivals)
    return Evaluation(rows, tuned)


def tune(events: DataFrame, first: Night, options: EvaluateConfig) -> tuple[list[MetricRow], dict[str, Setting]]:
    """Every setting of every baseline on the validation days before the first night, as segment `tuning`, and the best.

    The protocol again, `validation_days` earlier, so that nothing from the night on is seen. Baselines of one setting
    need no tuning.
    """
    every = contest.settings(options)
    grids = {name: [each for each in every if each.baseline == name] for name in options.ranked}
    named = {each.label: each for grid in grids.values() if len(grid) > 1 for each in grid}
    rows: list[MetricRow] = []
    if named:
        cut = Night(first.as_of - timedelta(days=options.validation_days), first.horizon_days)
        found = _ranked(events, cut, named, options, until=first.as_of)
        everyone = [row for row in found if row.segment == ALL and row.baseline is None]
        rows = [row._replace(segment=TUNING) for row in everyone]
    return rows, {name: best(grid, rows, options.tuning_cutoff) for name, grid in grids.items()}


def best(grid: Sequence[Setting], tuning: Iterable[MetricRow], cutoff: int) -> Setting:
    """The setting with the best NDCG of the next basket at a cut-off; the first of equals."""
    values = {row.model: row.value for row in tuning if row.metric == f"ndcg@{cutoff}"}
    return max(grid, key=lambda setting: values.get(setting.label, 0.0))


def ranking_metrics(
    events: DataFrame, night: Night, tuned: Mapping[str, Setting], options: EvaluateConfig
) -> list[MetricRow]:
    """The next basket and the horizon after one night: baselines, the model and the published lists."""
    reported = [Setting(HALF_LIFE, days) for days in options.reported_half_lives_days]
    named = {**tuned, **{setting.label: setting for setting in reported}}
    return _ranked(events, night, named, options)


def _ranked(
    events: DataFrame,
    night: Night,
    named: Mapping[str, Setting],
    options: EvaluateConfig,
    until: date | None = None,
) -> list[MetricRow]:
    """Every ranking of one cut: means over the users, and the model's paired differences to each baseline."""
    rows = protocol.basket_rows(events, options.event_types, night.cut, instant(until) if until else None).persist()
    kept = protocol.catalogue(rows, options.min_users_per_item)
    if not kept.item_indices.size:
        rows.unpersist()
        raise InputMissingError(
            f"evaluate: before {night.as_of} no item has {options.min_users_per_item} users with events of type"
            f" {', '.join(options.event_types)}: see evaluate.event_types and evaluate.min_users_per_item"
        )
    inside = protocol.in_columns(rows, kept)
    histories = protocol.histories(inside).persist()
    known = Known(kept, inside.where("before"), histories, night.cut.timestamp())
    fitted = contest.fit(named, known, options)
    cases = protocol.cases(inside, histories, night.cut, night.horizon_days)
    per_user = ranking.user_metrics(cases, kept, fitted, known.cut_seconds, options, night.model, night.lists).persist()
    try:
        found = estimates.of_rankings(per_user, options)
        coverage = estimates.coverage(per_user, kept.item_indices.size, options.cutoffs)
    finally:
        for frame in (per_user, histories, rows):
            frame.unpersist()
    if not any(each.segment == ALL for each in found):
        raise InputMissingError(
            f"evaluate: no user with a history has events of type {', '.join(options.event_types)} from"
            f" {night.as_of} on{f' and before {until}' if until else ''}: nothing to compare with"
        )
    judged = next((part.name for part in (night.model, night.lists) if part is not None), None)
    return [
        *_means(night.as_of, found, options),
        *_differences(night.as_of, found, judged, [*named], options),
        *(
            MetricRow(night.as_of, model, ALL, f"coverage@{cutoff}", share, users)
            for (model, cutoff), (share, users) in coverage.items()
        ),
    ]


def _means(night: date, found: Sequence[estimates.Estimate], options: EvaluateConfig) -> Iterable[MetricRow]:
    for each in found:
        for place, metric in enumerate(ranking.metric_names(options.cutoffs)):
            yield _row(night, each, metric, place)
        values = dict(zip(ranking.value_names(options.cutoffs), each.means.value.tolist(), strict=True))
        for cutoff in options.cutoffs:
            bias = values[ranking.popularity_name(cutoff)] / values[ranking.TRUE_POPULARITY]
            metric = _metric(each.task, f"popularity_bias@{cutoff}")
            yield MetricRow(night, each.model, each.segment, metric, bias, each.users)


def _differences(
    night: date,
    found: Sequence[estimates.Estimate],
    judged: str | None,
    baselines: Sequence[str],
    options: EvaluateConfig,
) -> Iterable[MetricRow]:
    """The judged model minus each baseline, over the same users of each task and segment."""
    by_key = {(each.task, each.segment, each.model): each for each in found}
    for (task, segment, model), ours in by_key.items():
        if model != judged:
            continue
        for baseline in baselines:
            difference = ours.minus(by_key[task, segment, baseline])
            for place, metric in enumerate(ranking.metric_names(options.cutoffs)):
                yield _row(night, difference, metric, place)._replace(baseline=baseline)


def _row(night: date, each: estimates.Estimate, metric: str, place: int) -> MetricRow:
    def number(values: metrics.Floats) -> float | None:
        return None if math.isnan(values[place]) else float(values[place])

    return MetricRow(
        night,
        each.model,
        each.segment,
        _metric(each.task, metric),
        float(each.means.value[place]),
        each.users,
        standard_error=number(each.means.standard_error),
        low=number(each.means.low),
        high=number(each.means.high),
    )


def _metric(task: str, metric: str) -> str:
    return metric if task == ranking.NEXT else f"{task}_{metric}"


def _of_every_pair(
    events: DataFrame, night: Night, published: PublishedScores, tuned: Mapping[str, Setting], options: EvaluateConfig
) -> list[MetricRow]:
    """The scores of one night, beside a half-life that was tuned where it is a baseline."""
    chosen = tuned.get(HALF_LIFE, Setting(HALF_LIFE, max(options.half_lives_days)))
    days = night.horizon_days
    return every_pair.probability_metrics(events, night.cut, days, published, chosen.half_life_days, options)


def revival_metrics(events: DataFrame, night: Night, revivals: Revivals) -> list[MetricRow]:
    """One night's revived flags against what followed."""
    found = revival.revival_metrics(events, night.cut, night.horizon_days, revivals)
    name = night.model.name if night.model is not None else "memory"
    users = revivals.memory.select("user_index").distinct().count()
    return [MetricRow(night.as_of, name, ALL, metric, value, users) for metric, value in found.items()]
