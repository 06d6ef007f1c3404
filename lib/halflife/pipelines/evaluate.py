"""The published nights against what really happened next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.table import Column, Table

from halflife.command import Job
from halflife.errors import InputMissingError
from halflife.evaluation import backtest, trust
from halflife.evaluation.backtest import Evaluation, Night
from halflife.evaluation.every_pair import PublishedScores
from halflife.evaluation.ranking import ModelInputs, PublishedLists
from halflife.evaluation.rates import Universe
from halflife.evaluation.revival import Revivals
from halflife.evaluation.rows import MetricRow, SummaryRow, summary
from halflife.evaluation.scorer import ModelScorer
from halflife.model import artifact
from halflife.nights import instant
from halflife.warehouse import Run, digests

NAME, LIST = "halflife", "halflife_list"
# What the terminal shows of the metrics table.
RANKING = ("ndcg@10", "recall@10", "hit_rate@10", "mrr@10", "horizon_ndcg@10", "horizon_recall@10")
PROBABILITY = ("log_loss", "auc", "brier", "calibration_error", "mean_score", "base_rate")
STRENGTH = ("strength_r2", "strength_mse", "strength_mae")


def run(job: Job) -> None:
    """Judge every scored night whose horizon lies before `job.as_of`, and publish the metrics."""
    store = job.warehouse
    store.path("events", job.as_of)  # what happened until then must have been sessionized
    nights = matured(job)
    if not nights:
        job.unchanged("nothing to do: no night was scored yet whose horizon has passed")
        return
    inputs = {
        "config": job.config.model_dump(mode="json", include={"evaluate"}),
        "sessionize": digests(store.manifest("sessionize", job.as_of)),
        "nights": {str(night): digests(store.manifest("score", night)) for night in nights},
    }
    job.publish(inputs, lambda run: _stage(job, run, nights))


def matured(job: Job) -> list[date]:
    """The scored nights that are asked for, of which all that they foretold has happened by now.

    Raises InputMissingError where there is none, unless the newest are asked for, whichever there are.
    """
    first, last = job.config.evaluate.first_night or date.min, job.config.evaluate.last_night or date.max
    nights = []
    for night in job.warehouse.nights("score"):
        ripe = instant(night) + timedelta(days=_figures(job, night)["horizon_days"]) <= instant(job.as_of)
        if ripe and first <= night <= last:
            nights.append(night)
    newest = job.config.evaluate.newest_nights
    if not nights and newest is None:
        asked = "" if (first, last) == (date.min, date.max) else " from evaluate.first_night to last_night"
        raise InputMissingError(
            f"no night was scored{asked} whose horizon lies before {job.as_of}: score nights first, or evaluate later"
        )
    return nights[-(newest or len(nights)) :]


def _figures(job: Job, night: date) -> dict[str, Any]:
    """The figures of a scored night: its model, half-lives and horizon."""
    figures: dict[str, Any] = (job.warehouse.manifest("score", night) or {})["metrics"]
    return figures


def _stage(job: Job, run: Run, nights: Sequence[date]) -> dict[str, Any]:
    """Write the metrics, as a table and as JSON, and show them; returns the figures for the manifest."""
    events = job.warehouse.read(job.spark, "events", job.as_of)
    found = backtest.evaluate(events, [_night(job, night) for night in nights], job.config.evaluate, job.stage)
    _watch(job, nights, found.rows)
    run.write("metrics", found.table(events), sort=["night", "segment", "model", "metric"])
    run.path("evaluation").mkdir()
    (run.path("evaluation") / "metrics.json").write_text(json.dumps(_as_json(found), indent=1), encoding="utf-8")
    for table in _tables(found):
        job.show(table)
    return {
        "nights": len(nights),
        "tuned": {name: setting.label for name, setting in found.tuned.items()},
        "tuned_half_life_days": found.tuned_half_life_days,
    }


def _watch(job: Job, nights: Sequence[date], rows: Sequence[MetricRow]) -> None:
    """Whether the nights' scores and recommendations can be believed."""
    for night in nights:
        of_night = (row for row in rows if row.night == night)
        found = trust.figures(of_night, NAME, LIST, job.config.evaluate.tuning_cutoff)
        if not _free(job.warehouse.manifest("score", night)):
            found.pop("ndcg_lead", None)
        for figure, value in found.items():
            job.alarms.matured(figure, night, value)


def _free(manifest: Mapping[str, Any] | None) -> bool:
    """Whether recommendations were of any items: else popular ones may have been left out."""
    made_with = (manifest or {})["config"]["score"]
    return not made_with.get("exclude_seen") and made_with.get("max_per_category") is None


def _as_json(found: Evaluation) -> list[dict[str, Any]]:
    """The rows of METRICS as objects, what is null left out."""
    rows = ({**row._asdict(), "night": row.night.isoformat()} for row in found.rows)
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def _tables(found: Evaluation) -> list[Table]:
    """The metrics for a person to read: rankings, the model's lead over each baseline, probabilities, strengths."""
    judged = [row for row in summary(found.rows) if row.segment == "all"]
    return [
        _table("Next basket of each user, and all of the horizon, all items ranked", judged, RANKING),
        _leads("Lead of the model in the next basket", found.rows, RANKING[:2]),
        _table("Engaged within the horizon, probability of every pair", judged, PROBABILITY),
        _table("Interest strength over the horizon, of every pair", judged, STRENGTH),
        _leads("Lead of the model over every pair", found.rows, (*PROBABILITY[:2], STRENGTH[0])),
    ]


def _table(title: str, rows: Sequence[SummaryRow], metrics: Sequence[str]) -> Table:
    table = Table("night", "model", *(Column(metric, justify="right") for metric in metrics), title=title)
    for row in sorted(rows, key=lambda row: (row.night, -row.values.get(metrics[0], 0.0))):
        if metrics[0] in row.values:
            values = (row.values.get(metric) for metric in metrics)
            table.add_row(str(row.night), row.model, *("" if value is None else f"{value:.4g}" for value in values))
    return table


def _leads(title: str, rows: Sequence[MetricRow], metrics: Sequence[str]) -> Table:
    """The model's values minus each baseline's, with their intervals."""
    columns = (Column(name, justify="right") for name in metrics)
    table = Table("night", "baseline", *columns, title=f"{title}, with 95 % intervals over users")
    leads: dict[tuple[date, str], dict[str, str]] = {}
    for row in rows:
        if row.baseline and row.segment == "all" and row.metric in metrics and row.low is not None:
            shown = f"{row.value:+.3g} ({row.low:+.3g} to {row.high:+.3g})"
            leads.setdefault((row.night, row.baseline), {})[row.metric] = shown
    for (night, baseline), shown_by in leads.items():
        table.add_row(str(night), baseline, *(shown_by.get(name, "") for name in metrics))
    return table


def _night(job: Job, night: date) -> Night:
    """What was published for one night, and the model behind it to be asked at each user's own instant."""
    store, spark = job.warehouse, job.spark
    everyone = store.read(spark, "users", night)
    users, items = everyone.where(F.col("user_id").isNotNull()), store.read(spark, "items", night)
    memory = store.read(spark, "memory", night)
    universe = Universe(everyone.count(), items.count(), users.count())
    lists = store.read(spark, "recommendations", night).join(users, on="user_id").join(items, on="item_id")
    made_with = (store.manifest("score", night) or {})["config"]["score"]
    files = [file.path for file in store.files("scores", night)]
    return Night(
        as_of=night,
        horizon_days=_figures(job, night)["horizon_days"],
        model=ModelInputs(NAME, _scorer(job, night, items), store.read(spark, "user_states", night), memory),
        lists=PublishedLists(LIST, lists.select("user_index", "rank", "item_index")),
        scores=PublishedScores(NAME, files, users, universe) if _whole(made_with) else None,
        revivals=Revivals(memory, made_with["revival_silence_days"]),
    )


def trained(job: Job, night: date, version: str) -> date:
    """When the model that scored `night` was trained: not always the last one, which may have come later that day.

    Raises InputMissingError where it is published no more.
    """
    for each in reversed(job.warehouse.nights("train")):
        if each <= night and (job.warehouse.manifest("train", each) or {})["metrics"].get("version") == version:
            return each
    raise InputMissingError(
        f"scores of {night} were made by model {version}, which is not published any more: score the night again"
    )


def _whole(made_with: Mapping[str, Any]) -> bool:
    """Whether a night's score table has every pair and each of its numbers: else there are no sums over all pairs."""
    parts = (("output", "all"), ("floor", 0.0), ("layout", "rows"))
    return all(made_with.get(key, whole) == whole for key, whole in parts) and made_with.get("encoding") != "uint8"


def _scorer(job: Job, night: date, items: DataFrame) -> ModelScorer:
    """The model that scored a night, by its version, over the night's items."""
    figures = _figures(job, night)
    if figures["model_kind"] == "exponential":
        return ModelScorer.exponential(figures["half_lives_days"], figures["horizon_days"], items.count())
    model = artifact.load(job.warehouse.path("models", trained(job, night, figures["model"])))
    side = model.item_side(items.count(), items.where(F.col("item_index") >= model.items).toPandas())
    return ModelScorer(model.half_lives_days, model.horizon_days, side.bias, side.vectors)
