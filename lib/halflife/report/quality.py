"""How good the scores are: what really happened after a night, beside simple baselines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from halflife import chart
from halflife.chart import BLUE, GREEN, ORANGE, VERMILLION, Chart
from halflife.evaluation import segments
from halflife.report import html
from halflife.report.facts import Facts
from halflife.report.html import Figure, percent

Row = Mapping[str, Any]  # of the table metrics
OURS: Final = "halflife"
RIVAL: Final = "half_life_tuned"
RANKING: Final = {"ndcg@10": "NDCG@10", "recall@10": "recall@10", "hit_rate@10": "hit rate@10", "mrr@10": "MRR@10"}
PROBABILITY: Final = {
    "auc": "AUC",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "mean_score": "mean score",
    "base_rate": "observed",
    "strength_r2": "R2 of strength",
}
COMPARED: Final = ("auc", "log_loss", "strength_r2")
REVIVALS: Final = {
    "revival_flagged": "pairs flagged as revived in the week before the night",
    "revival_precision": "of them bought again within the horizon",
    "revival_base_rate": "of all other pairs of that week",
    "revival_recall": "of the comebacks that held, flagged",
    "revival_lead_days": "days from the night to the next event",
}
NAMES: Final = {
    "halflife_list": "halflife, as published",
    "half_life_tuned": "single half-life, tuned",
    "tifu_knn": "TIFU-KNN",
    "sar": "SAR",
    "als": "ALS, implicit",
}
Z: Final = 1.96  # of a 95 % interval


def section(facts: Facts) -> Markup:
    """The last evaluation: rankings with their intervals, calibration, segments, revivals."""
    rows, night = _judged(facts)
    if night is None:
        return html.section(
            "How good the scores are",
            html.paragraph(
                "Not known yet: no night was evaluated. jobs/evaluate.py judges nights whose horizon has passed."
            ),
            source="metrics (no night is published).",
        )
    assert facts.evaluate is not None  # it has judged the night
    which = "this night" if night == facts.as_of else f"the night of {night}, the nearest one that was judged"
    everyone = [row for row in rows if row["segment"] == segments.ALL]
    return html.section(
        "How good the scores are",
        html.paragraph(f"What really happened after {which}; judged as of {facts.evaluate['as_of']}."),
        html.side_by_side(_leads(everyone, "ndcg@10"), _leads(everyone, "recall@10")),
        html.side_by_side(
            _models(everyone, RANKING, "Next basket: means over the users, all items ranked"), _segments(rows)
        ),
        html.heading("Probabilities and strengths"),
        html.side_by_side(_calibration(rows), _revivals(everyone)),
        _models(everyone, PROBABILITY, "Every pair of the night"),
        _differences(everyone),
        source=f"metrics/as_of={facts.evaluate['as_of']}, rows of the night {night}.",
    )


def headline(facts: Facts) -> tuple[str, str] | None:
    """NDCG@10 of the model, and its lead over the tuned half-life in words; None where no night was judged."""
    rows, night = _judged(facts)
    everyone = [row for row in rows if row["segment"] == segments.ALL and row["metric"] == "ndcg@10"]
    own = next((row for row in everyone if row["model"] == OURS and row["baseline"] is None), None)
    if own is None:
        return None
    lead = next((row for row in everyone if row["baseline"] == RIVAL), None)
    words = f"night of {night}" if lead is None else f"{lead['value']:+.4f} to one half-life, night of {night}"
    return f"{own['value']:.4f}", words


def _judged(facts: Facts) -> tuple[list[Row], date | None]:
    """The metrics of this night, or else of the nearest one that was judged, an earlier one rather than a later."""
    if facts.evaluate is None:
        return [], None
    rows = facts.store.rows("metrics", date.fromisoformat(facts.evaluate["as_of"]))
    nights = {row["night"] for row in rows if row["segment"] == segments.ALL}
    if not nights:
        return [], None
    night = min(nights, key=lambda each: (each > facts.as_of, abs((each - facts.as_of).days)))
    return [row for row in rows if row["night"] == night], night


def _leads(rows: Iterable[Row], metric: str) -> Markup:
    """The model's lead over each baseline with its interval."""
    leads = [row for row in rows if row["baseline"] and row["metric"] == metric and row["low"] is not None]
    if not leads:
        return html.EMPTY
    leads.sort(key=lambda row: row["value"])
    lows, highs, values = (np.array([row[name] for row in leads]) for name in ("low", "high", "value"))
    low, high = min(0.0, float(lows.min())), max(0.0, float(highs.max()))
    margin = 0.06 * (high - low)
    baselines = chart.names("", [_words(row["baseline"]) for row in leads])
    drawn = Chart(
        f"Lead in {RANKING[metric]}",
        chart.linear(f"lead in {RANKING[metric]}, 95 % interval over users", low - margin, high + margin, ticks=4),
        baselines,
        height=22 * len(leads),
    )
    places = [place for place, _ in baselines.ticks]
    drawn.rule(x=0)
    for colour, sure in ((GREEN, lows > 0), (VERMILLION, highs < 0), (ORANGE, (lows <= 0) & (highs >= 0))):
        at = np.asarray(places)[sure]
        drawn.intervals((lows[sure], at), (highs[sure], at), colour)
        drawn.points(values[sure], at, colour)
    return html.figure(
        drawn, f"{RANKING[metric]}: the model's lead over each baseline on the same users; right of 0 it is better"
    )


def _models(rows: Iterable[Row], metrics: Mapping[str, str], caption: str) -> Markup:
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["baseline"] is None and row["metric"] in metrics:
            values.setdefault(row["model"], {})[row["metric"]] = row["value"]
    first = next(iter(metrics))
    ordered = sorted(values.items(), key=lambda each: -each[1].get(first, 0.0))
    lines = [(_words(model), *(_value(metric, found.get(metric)) for metric in metrics)) for model, found in ordered]
    return html.table(("model", *metrics.values()), lines, caption) if lines else html.EMPTY


def _differences(rows: Iterable[Row]) -> Markup:
    """The model's metrics of every pair minus those of each baseline."""
    compared = [row for row in rows if row["baseline"] and row["metric"] in COMPARED and row["low"] is not None]
    lines = [
        (PROBABILITY[row["metric"]], _words(row["baseline"]), row["value"], row["low"], row["high"])
        for row in sorted(compared, key=lambda row: (row["metric"], row["baseline"]))
    ]
    caption = "The model minus each baseline, with 95 % intervals over users; a log loss is the better the lower it is"
    head = ("metric", "baseline", "difference", "from", "to")
    return html.table(head, lines, caption) if lines else html.EMPTY


def _value(metric: str, value: float | None) -> html.Cell:
    """A metric in the digits that tell models apart."""
    return value if value is None or "@" not in metric else Figure(f"{value:.4f}")


def _segments(rows: Iterable[Row]) -> Markup:
    """The lead over the tuned half-life by kinds of users and items."""
    lines = [
        (row["segment"].replace(":", ": "), row["users"], *(_lead(row[name]) for name in ("value", "low", "high")))
        for row in sorted(rows, key=lambda row: _in_order(row["segment"]))
        if row["baseline"] == RIVAL and row["metric"] == "ndcg@10"
    ]
    caption = "By users and items: the lead in NDCG@10 over the tuned single half-life, with its 95 % interval"
    return html.table(("segment", "users", "lead", "from", "to"), lines, caption) if lines else html.EMPTY


def _lead(value: float | None) -> Figure:
    return Figure("" if value is None else f"{value:+.4f}")


def _in_order(segment: str) -> tuple[str, int]:
    """By kind, then by the number that a class begins with."""
    kind, _, name = segment.partition(":")
    number = re.match(r"\d+", name)
    return kind, int(number.group()) if number else 0


def _calibration(rows: Iterable[Row]) -> Markup:
    """What was foretold beside what came true, for scores of each octave."""
    points: dict[int, dict[str, float]] = {}
    for row in rows:
        octave = segments.octave_of(row["segment"])
        if row["model"] == OURS and octave is not None:
            points.setdefault(octave, {})[row["metric"]] = row["value"]
    found = [point for _, point in sorted(points.items())]
    if not any(point["base_rate"] for point in found):
        return html.paragraph("This evaluation has no calibration by score.")
    score, rate, pairs = (np.array([point[name] for point in found]) for name in ("mean_score", "base_rate", "pairs"))
    low, high = _wilson(rate, pairs)
    some = rate > 0  # zero has no place on a logarithmic axis: an interval down to its foot, and no point
    least, most = min(score[score > 0].min(), low[some].min()), max(score.max(), high.max())
    x = chart.logarithmic("foretold: mean score", least / 1.3, min(most * 1.3, 1.0), ticks=4)
    y = chart.logarithmic("came true: share of pairs", least / 1.3, min(most * 1.3, 1.0), ticks=5)
    drawn = Chart("Calibration", x, y)
    drawn.line([x.low, x.high], [x.low, x.high], "currentColor", "2 3", name="perfect")
    drawn.intervals((score, low), (score, high), BLUE)
    drawn.points(score[some], rate[some], BLUE, name="scores of one octave, 95 %")
    none = "" if some.all() else "; an interval without a point: of these scores none came true"
    return html.figure(drawn, f"Calibration: {int(pairs.sum()):,} pairs grouped by their score{none}")


def _wilson(rate: Any, pairs: Any) -> tuple[Any, Any]:
    """95 % interval of a share (Wilson, 1927), taking the pairs for independent."""
    spread = Z * np.sqrt(rate * (1 - rate) / pairs + Z**2 / (4 * pairs**2))
    middle = rate + Z**2 / (2 * pairs)
    return (middle - spread) / (1 + Z**2 / pairs), (middle + spread) / (1 + Z**2 / pairs)


def _revivals(rows: Sequence[Row]) -> Markup:
    values = {row["metric"]: row["value"] for row in rows if row["metric"] in REVIVALS and row["baseline"] is None}
    if not values:
        return html.EMPTY
    lines = [
        (words, int(value) if name.endswith("flagged") else value if name.endswith("days") else percent(value))
        for name, words in REVIVALS.items()
        if (value := values.get(name)) is not None
    ]
    return html.table(("revivals", ""), lines, "Interest that came back: did it stay?")


def _words(model: str) -> str:
    return NAMES.get(model, model.replace("_", " "))
