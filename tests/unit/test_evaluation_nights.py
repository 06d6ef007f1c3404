"""Which published nights an evaluation judges."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import published_warehouse as published
from halflife.command import Job
from halflife.config import Config
from halflife.errors import InputMissingError
from halflife.evaluation.rows import MetricRow
from halflife.pipelines import evaluate
from halflife.warehouse import Warehouse

NIGHTS = (date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 4))


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Warehouse(tmp_path_factory.mktemp("warehouse"))
    published.publish_model(store)
    for night in NIGHTS:
        published.publish_night(store, night)
    return store.root


def job(warehouse: Path, as_of: date, **sections: Any) -> Job:
    columns = {"user": "u", "item": "i", "time": "t"}
    config = Config.model_validate(
        {
            "warehouse": str(warehouse),
            "sources": {"log": {"path": "none", "event_type": "purchase", "columns": columns}},
            "event_types": {name: {"weight": 1.0} for name in published.TYPES},
            **sections,
        }
    )
    return Job("evaluate", as_of, config, sys.stderr, until=as_of)


def judged(warehouse: Path, as_of: date, **options: str | int) -> list[date]:
    return evaluate.matured(job(warehouse, as_of, evaluate=options))


def test_a_night_is_judged_when_its_horizon_has_passed(warehouse: Path) -> None:
    assert judged(warehouse, date(2026, 3, 9)) == [*NIGHTS[:2]]
    assert judged(warehouse, date(2026, 3, 11)) == [*NIGHTS]


def test_a_range_of_nights_can_be_asked_for(warehouse: Path) -> None:
    assert judged(warehouse, date(2026, 4, 1), first_night="2026-03-02") == [*NIGHTS[1:]]
    assert judged(warehouse, date(2026, 4, 1), last_night="2026-03-01") == [NIGHTS[0]]
    with pytest.raises(InputMissingError, match=r"from evaluate\.first_night to last_night"):
        judged(warehouse, date(2026, 4, 1), first_night="2026-03-03", last_night="2026-03-03")


def test_a_night_too_young_is_no_night_to_judge(warehouse: Path) -> None:
    with pytest.raises(InputMissingError, match="horizon lies before 2026-03-02"):
        judged(warehouse, date(2026, 3, 2))


def test_the_newest_nights_can_be_asked_for_before_there_are_any(warehouse: Path) -> None:
    assert judged(warehouse, date(2026, 3, 9), newest_nights=1) == [NIGHTS[1]]
    assert judged(warehouse, date(2026, 3, 2), newest_nights=1) == []
    evaluate.run(job(warehouse, date(2026, 3, 1), evaluate={"newest_nights": 1}))
    assert Warehouse(warehouse).nights("evaluate") == []


def test_a_night_is_judged_by_the_model_that_scored_it_though_another_was_trained_that_day(tmp_path: Path) -> None:
    store, night = Warehouse(tmp_path), NIGHTS[1]
    published.publish_model(store)
    published.publish_model(store, night, seed=4)
    old, new = (store.manifest("train", trained) for trained in (published.TRAINED, night))
    assert old is not None
    assert new is not None
    judging = job(tmp_path, date(2026, 4, 1))
    assert evaluate.trained(judging, night, old["metrics"]["version"]) == published.TRAINED
    assert evaluate.trained(judging, night, new["metrics"]["version"]) == night
    with pytest.raises(InputMissingError, match="not published any more"):
        evaluate.trained(judging, published.TRAINED, new["metrics"]["version"])


def test_a_night_is_held_against_those_that_the_same_run_judged_before_it(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"calibration": {"low": 0.5, "high": 2.0, "times_median": True}}
    run = job(warehouse, date(2026, 4, 1), alarms=limits)
    monkeypatch.setattr(evaluate, "_free", lambda _: True)  # these nights' manifests have no config
    rows = [
        MetricRow(night, evaluate.NAME, "all", metric, value, 5)
        for night, mean in zip(NIGHTS, (0.5, 0.5, 0.2), strict=True)
        for metric, value in (("mean_score", mean), ("base_rate", 0.1), ("pairs", 1e6))
    ]
    evaluate._watch(run, NIGHTS, rows)
    (raised,) = run.alarms.raised
    assert str(raised) == f"calibration of {NIGHTS[2]} 2 is below 2.5"
