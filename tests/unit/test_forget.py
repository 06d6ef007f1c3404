"""The command that asks for users and events to be forgotten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halflife import cli, crash, forgetting
from halflife.errors import PublishConflictError
from halflife.upkeep import verify
from halflife.warehouse import TABLES, Run, Warehouse
from small_night import NIGHT, begun

CONFIG = """\
warehouse: {root}
sources: {{log: {{path: log.csv, format: csv, event_type: view, columns: {{user: u, item: i, time: t}}}}}}
event_types: {{view: {{weight: 1}}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(root=tmp_path / "warehouse"))
    return path


def test_a_request_waits_in_the_warehouse_with_digests_that_outlive_its_ids(config: Path, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("anna\nben\n")
    (tmp_path / "events").write_text('carl,7\n"dora, the",8\n')
    arguments = ["--users", str(tmp_path / "users"), "--events", str(tmp_path / "events")]
    assert cli.main(["forget", "--config", str(config), "--before", "2026-01-02", *arguments]) == 0
    store = Warehouse(tmp_path / "warehouse")
    ((path, request),) = forgetting.requests(store).items()
    assert request.before == "2026-01-02"
    assert request.erase == ["anna", "ben", "carl", "dora, the"]
    forgetting.erase(store, date(2026, 1, 2), forgetting.requests(store))
    assert json.loads(path.read_text()) == {
        "before": "2026-01-02",
        "users": request.users,
        "events": request.events,
        "erase": [],
        "indexes": [],
    }
    assert not any(name in path.read_text() for name in request.erase)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "nothing to forget"),
        (["--users", "nowhere"], 3, "nowhere: not readable as text"),
        (["--events", "{config}"], 2, "expected a user id and an event id in each line"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    given = [argument.format(config=config) for argument in arguments]
    assert cli.main(["forget", "--config", str(config), "--before", "2026-01-02", *given]) == code
    assert message in capsys.readouterr().err


def of_users(store: Warehouse, night: date, *users: str) -> Run:
    """A run that has staged a row of each user."""
    return of_rows(begun(store, "all", night), user_id=users)


def of_rows(run: Run, **columns: Sequence[Any]) -> Run:
    run.path("metrics").mkdir()
    pq.write_table(pa.table(columns), run.path("metrics") / "part-0.parquet")
    return run


def column_of(store: Warehouse, night: date, name: str = "user_id") -> list[Any]:
    found: list[Any] = pq.read_table(store.path("metrics", night), partitioning=None)[name].to_pylist()
    return found


def test_a_run_that_began_before_users_were_forgotten_is_not_published_after_it(tmp_path: Path) -> None:
    store, next_night = Warehouse(tmp_path), NIGHT + timedelta(days=1)
    store.publish(of_users(store, NIGHT, "anna", "ben"), {}, {})
    late = of_users(store, next_night, "anna", "ben")
    forgetting.ask(store, NIGHT, ["anna"], [])
    forgetting.erase(store, NIGHT, forgetting.requests(store))
    assert column_of(store, NIGHT) == ["ben"]
    with pytest.raises(PublishConflictError, match="users were forgotten since this run began"):
        store.publish(late, {}, {})
    assert store.nights("evaluate") == [NIGHT]
    store.publish(of_users(store, next_night, "ben"), {}, {})
    assert column_of(store, next_night) == ["ben"]


def test_what_is_published_while_users_are_removed_loses_them_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, next_night = Warehouse(tmp_path), NIGHT + timedelta(days=1)
    store.publish(of_users(store, NIGHT, "anna", "ben"), {}, {})
    meanwhile = [of_users(store, next_night, "anna", "carl")]
    path = forgetting.ask(store, NIGHT, ["anna"], [])

    def publish(point: str) -> None:
        if point == "publish: switched" and meanwhile:
            store.publish(meanwhile.pop(), {}, {})

    monkeypatch.setattr(crash, "point", publish)
    forgetting.erase(store, NIGHT, forgetting.requests(store))
    assert (column_of(store, NIGHT), column_of(store, next_night)) == (["ben"], ["carl"])
    assert forgetting.requests(store)[path].erase == []
    assert list(verify.damages(store)) == []
    assert len(store.runs()) == 2


def numbered(store: Warehouse, *users: str) -> None:
    """A night of sessionize that has numbered users, and no other rows."""
    run = store.begin("sessionize", NIGHT, {})
    assert run is not None
    for table in TABLES["sessionize"]:
        if table != "users":
            run.write_rows(table, [])
    rows = pa.table({"user_id": users, "user_index": pa.array(range(len(users)), pa.int32())})
    run.path("users").mkdir()
    pq.write_table(rows, run.path("users") / "part-0.parquet")
    store.publish(run, {}, {})


class KilledError(Exception):
    pass


def test_an_index_outlives_a_kill_after_the_id_that_led_to_it_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, next_night = Warehouse(tmp_path), NIGHT + timedelta(days=1)
    numbered(store, "anna", "ben")
    meanwhile = [of_rows(begun(store, "all"), user_index=[0, 1])]
    path = forgetting.ask(store, NIGHT, ["anna"], [])

    def publish_and_die(point: str) -> None:
        if point == "publish: switched" and meanwhile:
            store.publish(meanwhile.pop(), {}, {})
            raise KilledError

    monkeypatch.setattr(crash, "point", publish_and_die)
    with pytest.raises(KilledError):
        forgetting.erase(store, next_night, forgetting.requests(store))
    (folder,) = {file.path.parent for file in store.files("users", NIGHT)}
    assert "anna" not in pq.read_table(folder, partitioning=None)["user_id"].to_pylist()
    forgetting.erase(store, next_night, forgetting.requests(store))
    assert column_of(store, NIGHT, "user_index") == [1]
    assert forgetting.requests(store)[path].indexes == []


def test_what_is_asked_while_a_night_is_made_waits_for_the_next_one(tmp_path: Path) -> None:
    store = Warehouse(tmp_path)
    store.publish(of_users(store, NIGHT, "anna", "ben"), {}, {})
    asked = forgetting.requests(store)
    path = forgetting.ask(store, NIGHT, ["anna"], [])
    forgetting.erase(store, NIGHT, asked)
    assert forgetting.requests(store)[path].erase == ["anna"]
    assert column_of(store, NIGHT) == ["anna", "ben"]
