"""All pairs of one night judged: published probabilities and strengths beside those of the baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame

from halflife.config import EvaluateConfig
from halflife.evaluation import estimates, metrics, probability, rates
from halflife.evaluation.judgement import Judgement, judge
from halflife.evaluation.rates import Universe
from halflife.evaluation.rows import MetricRow
from halflife.evaluation.segments import ALL, NEW_ITEM, REPEAT_ITEM, of_scores
from halflife.evaluation.tally import COUNTS, EVERYONE, merged, times


@dataclass(frozen=True)
class PublishedScores:
    """One night's score of every pair: the files of SCORES, the users scored (user_index, user_id), the users and items
    that there are, and the name to show."""

    name: str
    files: Sequence[Path]
    users: DataFrame
    universe: Universe


def probability_metrics(
    events: DataFrame,
    cut: datetime,
    horizon_days: float,
    published: PublishedScores,
    half_life_days: float,
    options: EvaluateConfig,
) -> list[MetricRow]:
    """Probabilities and strengths of all pairs over the horizon after a cut, beside baselines that are rates."""
    earlier, now = (
        rates.outcome(events, at, horizon_days, half_life_days, published.universe)
        for at in (cut - timedelta(days=horizon_days), cut)
    )
    users = published.users.select("user_index", "user_id", estimates.bucket(options)).persist()
    outcomes = now.pairs.select("user_id", "item_id", "known", "strength")
    tallies = {published.name: probability.tallied(published.files, users.drop("user_index"), outcomes)}
    if names := [name for name in rates.LAWS if name in options.baselines]:
        weights, factor = rates.fit(earlier, published.universe, names), rates.forecast_factor(earlier)
        tallies |= rates.tallied(now, weights, factor, users.drop("user_id"))
    for frame in (users, earlier.pairs, now.pairs):
        frame.unpersist()
    judged = {model: _by_segment(counted, options) for model, counted in tallies.items()}
    rows = [
        row
        for segment in (ALL, REPEAT_ITEM, NEW_ITEM)
        for row in _judged_rows(published.name, segment, {model: each.get(segment) for model, each in judged.items()})
    ]
    rows += [row for model, counted in tallies.items() for row in _rows_by_octave(model, counted)]
    return [row._replace(night=cut.date(), users=published.universe.users) for row in rows]


def _by_segment(counted: pd.DataFrame, options: EvaluateConfig) -> dict[str, Judgement]:
    """All pairs, those that were known before, and the others."""
    everything, known = (counted[counted["segment"] == segment] for segment in (ALL, REPEAT_ITEM))
    new = merged(pd.concat([everything, times(known, -1.0)]))
    parts = {ALL: everything, REPEAT_ITEM: known, NEW_ITEM: new}
    judged = {segment: judge(part, options) for segment, part in parts.items()}
    return {segment: each for segment, each in judged.items() if each is not None}


def _judged_rows(ours: str, segment: str, judged: Mapping[str, Judgement | None]) -> Iterator[MetricRow]:
    """Metrics of each model in a segment, and ours minus each other's; nights and users are for the caller to fill."""
    model = judged[ours]
    for name, each in judged.items():
        if each is None:
            continue
        # Only the half-life is a forecast of strength too.
        names = [
            metric for metric in each.values if name in (ours, rates.HALF_LIFE) or not metric.startswith("strength_")
        ]
        yield from (_of(each, metric, name, segment) for metric in names)
        if model is not None and name != ours:
            difference = model.minus(each)
            shared = (metric for metric in names if metric in difference.values)
            yield from (_of(difference, metric, ours, segment)._replace(baseline=name) for metric in shared)


def _rows_by_octave(model: str, counted: pd.DataFrame) -> Iterator[MetricRow]:
    """What was foretold and what came true, by score; nights and users are for the caller to fill."""
    everyone = counted[(counted["segment"] == ALL) & (counted["bucket"] == EVERYONE)].groupby("bin")[list(COUNTS)].sum()
    for octave, values in metrics.by_octave(*(everyone[name].to_numpy(dtype=float) for name in COUNTS)).items():
        for metric, value in values.items():
            yield MetricRow(date.min, model, of_scores(octave), metric, value, 0)


def _of(each: Judgement, metric: str, model: str, segment: str) -> MetricRow:
    error, low, high = each.interval(metric) or (None, None, None)
    return MetricRow(date.min, model, segment, metric, each.values[metric], 0, None, error, low, high)
