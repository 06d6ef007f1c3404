"""What a delivery says of the nights that it brought, and of those that it could not."""

from __future__ import annotations

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
