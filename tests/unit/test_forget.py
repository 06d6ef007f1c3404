"""The command that asks for users and events to be forgotten."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from halflife import cli, forgetting
from halflife.warehouse import Warehouse

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
    forgetting.erase(store, made=date(2026, 1, 2))
    assert json.loads(path.read_text()) == {
        "before": "2026-01-02",
        "users": request.users,
        "events": request.events,
        "erase": [],
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
