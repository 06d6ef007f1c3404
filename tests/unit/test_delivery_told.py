"""What a delivery says of the nights that it brought, and of those that it could not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from halflife.errors import InputMissingError
from halflife.report.runs import history
from lake_team import NEXT, NIGHT, Team


def test_the_history_of_runs_tells_the_seconds_of_a_delivery(team: Team) -> None:
    team.publish(NIGHT, 1)
    team.deliver(NIGHT)
    team.deliver(NIGHT)
    seconds = {run.state: list(run.seconds) for run in history(team.store) if run.job == "deliver"}
    assert seconds == {state: ["deliver metrics"] for state in ("delivered", "unchanged")}


def test_nights_that_were_brought_before_a_failure_are_told(team: Team) -> None:
    team.publish(NIGHT, 1)
    team.publish(NEXT, 2)
    team.deliver(NIGHT)
    team.publish(NIGHT, 3)
    with pytest.raises(InputMissingError, match="recommendations"):
        team.deliver(NEXT, "deliver.tables=[metrics,recommendations]")
    assert "delivered metrics 2026-01-03 1 rows 0.0 MB, metrics 2026-01-02 1 rows" in team.said.getvalue()
    assert "failed" in {run.state for run in history(team.store)}


def test_a_night_whose_manifest_is_damaged_fails_the_delivery_of_all_others(team: Team) -> None:
    nights = [NIGHT, NEXT, NEXT + timedelta(days=1)]
    for place, night in enumerate(nights):
        team.publish(night, place)
        team.deliver(night)
    team.publish(nights[1], 8)
    (team.store.night_link("evaluate", nights[0]).resolve() / "manifest.json").write_text("{")
    with pytest.raises(InputMissingError, match=r"manifest\.json: cannot be read.*all other nights are delivered"):
        team.deliver(nights[2])
    assert "delivered metrics 2026-01-03 1 rows" in team.said.getvalue()
    assert [team.values(night) for night in nights] == [[0], [8], [2]]


def test_a_night_that_the_warehouse_has_no_longer_is_left_in_the_lake_and_told(team: Team) -> None:
    team.publish(NIGHT, 1)
    team.publish(NEXT, 2)
    team.deliver(NIGHT)
    team.store.night_link("evaluate", NIGHT).unlink()
    gone = "left, for the warehouse has them no longer: 1 nights of metrics, 2026-01-02 to 2026-01-02"
    assert gone in team.deliver(NEXT)
    assert gone in team.deliver(NEXT)
    assert team.values(NIGHT) == [1]
