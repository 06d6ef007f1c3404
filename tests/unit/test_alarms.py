"""Alarms: when a figure raises one, what is done then, and what the config makes of its keys."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from halflife import alarms
from halflife.alarms import Watch
from halflife.config import AlarmConfig, AlarmsConfig
from halflife.errors import AuditError


def manifest(kind: str = "neural", **watched: float) -> dict[str, Any]:
    return {"metrics": {"model_kind": kind, "watched": watched}}


NIGHTS = [manifest(score_p99=0.01), manifest(score_p99=0.02), manifest(score_p99=0.9), {"metrics": {}}]


@pytest.mark.parametrize(("value", "said"), [(0.1, None), (0.5, None), (0.09, "below 0.1"), (0.51, "above 0.5")])
def test_a_figure_outside_its_bounds_raises_an_alarm(value: float, said: str | None) -> None:
    alarm = alarms.judge("share", value, AlarmConfig(low=0.1, high=0.5), [])
    assert str(alarm) == (f"share {value} is {said}" if said else "None")


def test_what_is_no_number_raises_one_and_the_manifest_stays_json() -> None:
    alarm = alarms.judge("share", float("nan"), AlarmConfig(high=0.5), [])
    assert alarm is not None
    assert "no number" in str(alarm)
    assert alarm.described()["value"] is None
    watch = Watch(AlarmsConfig(), [manifest(score_p99=float("nan")), {"metrics": {"watched": {"score_p99": None}}}])
    watch.figures("score_quantiles", {"score_p99": float("nan")})  # nor is it part of a median
    assert watch.described() == {"watched": {"score_p99": None}, "alarms": []}


def test_relative_bounds_are_multiples_of_the_median_of_the_last_nights() -> None:
    watch = Watch(AlarmsConfig(), NIGHTS)
    watch.figures("score_quantiles", {"score_p99": 0.039})
    assert not watch.raised
    watch.figures("score_quantiles", {"score_p99": 0.041})
    (raised,) = watch.described()["alarms"]
    assert raised == {"figure": "score_p99", "value": 0.041, "low": 0.01, "high": 0.04, "action": "warn"}
    assert watch.described()["watched"] == {"score_p99": 0.041}


def test_without_nights_to_compare_with_there_is_no_relative_bound() -> None:
    watch = Watch(AlarmsConfig(), NIGHTS)
    watch.figures("score_quantiles", {"score_p99": 7.0}, comparable=lambda night: "model_version" in night)
    watch.figures("score_quantiles", {"score_p50": 7.0})
    Watch(AlarmsConfig(), [manifest(score_p99=0.0)]).figures("score_quantiles", {"score_p99": 7.0})
    assert not watch.raised


def test_of_nights_that_are_over_each_is_held_against_those_before_it() -> None:
    limits = AlarmsConfig.model_validate({"ndcg_lead": {"low": 0.5, "times_median": True}, "recent_nights": 3})
    judged = [
        manifest(**{"ndcg_lead of 2026-03-01": 9.0, "calibration of 2026-03-01": 9.0}),
        manifest(**{"ndcg_lead of 2026-03-01": 0.1, "ndcg_lead of 2026-03-04": 9.0}),  # what was judged last counts
    ]
    watch = Watch(limits, judged)
    for day, lead in ((2, 0.1), (3, 0.049), (4, 0.06)):
        watch.matured("ndcg_lead", date(2026, 3, day), lead)
    (raised,) = watch.raised
    assert (raised.figure, raised.low) == ("ndcg_lead of 2026-03-03", 0.05)


def test_a_breach_stops_the_run_and_says_why_or_is_off() -> None:
    watch = Watch(AlarmsConfig(), [])
    with pytest.raises(AuditError, match=r"quarantine_share 0\.6 is above 0\.5 \(most of it broken\); nothing was"):
        watch.figures("quarantine_share", {"quarantine_share": 0.6}, "most of it broken")
    off = AlarmsConfig.model_validate({"quarantine_share": {"action": False}})  # how YAML reads a plain off
    Watch(off, []).figures("quarantine_share", {"quarantine_share": 0.6})


def test_keys_that_are_left_out_keep_what_the_figure_has_by_itself() -> None:
    limits = AlarmsConfig.model_validate({"quarantine_share": {"high": 0.3}, "recent_nights": 3})
    assert limits.quarantine_share == AlarmConfig(high=0.3, action="stop")
    with pytest.raises(ValueError, match="low 2 is above high 1"):
        AlarmsConfig.model_validate({"calibration": {"low": 2, "high": 1}})
