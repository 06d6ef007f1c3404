"""Deliveries that meet one another, and those that are killed: a reader sees one whole run of a night."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halflife import crash
from halflife.delivery.night import deliver
from halflife.errors import PublishConflictError
from halflife.pipelines import deliver as pipeline
from halflife.pipelines.deliver import published
from halflife.warehouse.amendment import amend
from lake_team import NEXT, NIGHT, Team, at_point, job


def test_of_two_deliveries_of_a_night_one_wins_and_the_other_changes_nothing(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Team(tmp_path / "other", team.address)
    team.publish(NIGHT, 1, 2)
    other.publish(NIGHT, 3, 4)
    at_point(monkeypatch, "copied", lambda: other.deliver(NIGHT))
    with pytest.raises(PublishConflictError, match="2026-01-02 was changed"):
        team.deliver(NIGHT)
    assert team.values(NIGHT) == [3, 4]
    assert team.lake().vacuum(0, remove=False) == []  # nor has it left anything behind


def test_the_loser_that_finds_its_own_work_done_is_content(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.publish(NIGHT, 1, 2)
    at_point(monkeypatch, "copied", lambda: team.deliver(NIGHT))
    assert "nothing to do" in team.deliver(NIGHT)
    assert team.values(NIGHT) == [1, 2]
    assert team.lake().vacuum(0, remove=False) == []


def test_deliveries_of_other_nights_do_not_stop_one(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.publish(NIGHT, 1)
    team.publish(NEXT, 2)
    at_point(monkeypatch, "copied", lambda: team.deliver(NEXT))
    team.deliver(NIGHT)
    assert (team.values(NIGHT), team.values(NEXT)) == ([1], [2])


RACE = """
import sys
from datetime import date, timedelta
from pathlib import Path
from halflife.errors import PublishConflictError
from lake_team import NIGHT, Team
team, codes = Team(Path(sys.argv[1]), sys.argv[2]), []
print("ready", flush=True)
sys.stdin.readline()
for place in range(int(sys.argv[3])):
    try:
        team.deliver(NIGHT + timedelta(days=place))
        codes.append(0)
    except PublishConflictError:
        codes.append(5)
print(codes)
"""


def test_readers_meet_one_whole_run_of_a_night_while_two_processes_race_for_it(team: Team, tmp_path: Path) -> None:
    nights = [NIGHT + timedelta(days=place) for place in range(3)]
    other = Team(tmp_path / "other", team.address)
    for night in nights:
        team.publish(night, 1, 2, 3)
        other.publish(night, 11, 12, 13)
    path = str(Path(__file__).parents[1])
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(each.config.parent), team.address, str(len(nights))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        for each in (team, other)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    seen = set()
    while any(racer.poll() is None for racer in racers):
        seen |= {tuple(team.values(night)) for night in team.lake().files}
    codes = [json.loads(racer.communicate()[0]) for racer in racers]
    assert all(0 in pair for pair in zip(*codes, strict=True))
    assert seen <= {(1, 2, 3), (11, 12, 13)}
    assert {tuple(team.values(night)) for night in nights} <= {(1, 2, 3), (11, 12, 13)}


def points(team: Team, folder: Path) -> list[str]:
    listed = folder / "points"
    job(team, {crash.POINTS: str(listed)})
    return listed.read_text().splitlines()


def test_a_delivery_that_is_killed_leaves_the_old_night_or_the_new_one_and_is_made_good_by_the_next(
    tmp_path: Path, on_s3: str
) -> None:
    first = Team(tmp_path / "listing", f"{on_s3}/listing")
    first.publish(NIGHT, 1, 2)
    names = points(first, tmp_path)
    assert names == [
        "deliver metrics: begins",
        *["deliver: a file of metrics copied"] * 2,
        "deliver: metrics committed",
        "deliver metrics: is done",
    ]
    for number, name in enumerate(names, 1):
        team = Team(tmp_path / str(number), f"{on_s3}/{number}")
        team.publish(NIGHT, 1, 2)
        team.deliver(NIGHT)
        team.publish(NIGHT, 3, 4)
        assert job(team, {crash.AT: str(number)}) == -signal.SIGKILL
        committed = number >= names.index("deliver: metrics committed") + 1
        assert team.values(NIGHT) == ([3, 4] if committed else [1, 2]), name
        assert ("nothing to do" in team.deliver(NIGHT)) == committed
        assert team.values(NIGHT) == [3, 4]


def test_a_table_that_another_made_since_the_look_is_not_delivered_to_twice(team: Team) -> None:
    team.publish(NIGHT, 1, 2)
    lake = team.lake()
    team.deliver(NIGHT)
    assert deliver(lake, published(team.store, "metrics", NIGHT), NIGHT, 7) is None
    assert team.values(NIGHT) == [1, 2]


def forgotten_from(team: Team) -> None:
    def rewritten(table: str, file: Path, fresh: Path) -> bool:
        if file.suffix == ".parquet":
            pq.write_table(pa.table({"value": [7]}), fresh)
        return file.suffix == ".parquet"

    amend(team.store, "evaluate", NIGHT, rewritten)
    team.store.drop_replaced()


def replaced_and_collected(team: Team) -> None:
    team.publish(NIGHT, 8)
    team.store.drop_replaced()


@pytest.mark.parametrize("change", [forgotten_from, replaced_and_collected])
@pytest.mark.parametrize("copied", [0, 1])
def test_a_night_that_is_changed_in_the_warehouse_while_it_is_delivered_is_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Team], None], copied: int
) -> None:
    team = Team(tmp_path / "team", str(tmp_path / "lake"))
    team.publish(NIGHT, 1, 2)

    def late(*arguments: Any) -> Any:
        change(team)
        return deliver(*arguments)

    if copied:
        at_point(monkeypatch, "copied", lambda: change(team))
    else:
        monkeypatch.setattr(pipeline, "deliver", late)
    with pytest.raises(PublishConflictError, match="was changed while it was delivered"):
        team.deliver(NIGHT)
    assert team.lake().files == {}
