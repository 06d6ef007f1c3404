"""The history of runs: what was published, what failed, and what of it still wants attention."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

import published_warehouse as published
from halflife import cli
from halflife.report import runs
from halflife.status import StatusFile
from halflife.warehouse import Warehouse

NIGHT = published.TRAINED
BEFORE, NEXT = NIGHT - timedelta(days=1), NIGHT + timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> Warehouse:
    """A night that was sessionized, and scored twice."""
    store = Warehouse(tmp_path)
    published.publish_night(store, NIGHT, law_days=30.0)
    first = note(store, "score", NIGHT, run_id=manifest(store, "score", NIGHT)["run_id"])
    published.publish_night(store, NIGHT, published.EVENTS[:3], law_days=20.0)
    second = note(store, "score", NIGHT, run_id=manifest(store, "score", NIGHT)["run_id"])
    assert first != second
    return store


def manifest(store: Warehouse, job: str, night: date) -> dict[str, Any]:
    found = store.manifest(job, night)
    assert found is not None
    return found


def note_at(
    store: Warehouse, minute: int, state: Literal["failed", "unchanged"], job: str = "sessionize", night: date = NEXT
) -> None:
    """A run that began and ended in a minute of the year 2100."""
    file = StatusFile(store.root, job, night)
    file.status.started_at = f"2100-01-01T00:{minute:02}:00+00:00"
    file.end(state, 0, "")
    noted = json.loads(file.path.read_text()) | {"ended_at": f"2100-01-01T00:{minute:02}:30+00:00"}
    file.path.write_text(json.dumps(noted))


def note(store: Warehouse, job: str, night: date, run_id: str | None = None, code: int = 0, message: str = "") -> str:
    """A run that has ended; returns when it began."""
    file = StatusFile(store.root, job, night)
    file.stage("score", {"encode": 1.5, "score": 2.0})
    file.end("failed" if code else "published", code, message, run_id)
    return file.path.name


def test_each_run_has_its_state_its_rows_and_its_seconds(store: Warehouse, capsys: pytest.CaptureFixture[str]) -> None:
    note(store, "score", NEXT, code=4, message="scores: 3 rows, expected 4; nothing was published")
    assert cli.main(["runs", "--json", "--config", str(published.config(store.root))]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted((run["job"], run["night"], run["state"], run["exit_code"]) for run in found) == [
        ("score", str(NIGHT), "published", 0),
        ("score", str(NIGHT), "replaced", 0),
        ("score", str(NEXT), "failed", 4),
        ("sessionize", str(NIGHT), "published", None),  # from before there were files of runs: known by its manifest
    ]
    (current,) = (run for run in found if run["job"] == "score" and run["state"] == "published")
    assert current["seconds"] == {"encode": 1.5, "score": 2.0}
    assert current["rows"]["scores"] == manifest(store, "score", NIGHT)["tables"]["scores"]["rows"]


def test_the_table_says_why_a_run_failed(store: Warehouse, capsys: pytest.CaptureFixture[str]) -> None:
    note(store, "train", NIGHT, code=3, message="no events")
    assert cli.main(["runs", "-n", "4", "--config", str(published.config(store.root))]) == 0
    shown = capsys.readouterr().out
    assert "no events" in shown
    assert "encode 1.5 s, score 2 s" in shown


def test_what_failed_wants_attention_until_its_night_is_published(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = {**manifest(store, "score", NIGHT), "published_at": "2020-01-01T00:00:00+00:00"}
    note(store, "sessionize", NEXT, code=4, message="too many rows were rejected")
    note(store, "sessionize", NIGHT, code=3)
    assert {(run.job, run.night) for run in runs.failures(store, scored)} >= {("sessionize", str(NEXT))}
    later = manifest(store, "sessionize", NIGHT) | {"published_at": "2100-01-01T00:00:00+00:00"}
    monkeypatch.setattr(store, "manifest", lambda job, night: later if night == NIGHT else None)
    assert [(run.job, run.night) for run in runs.failures(store, scored)] == [("sessionize", str(NEXT))]


def test_a_later_run_that_had_nothing_to_do_makes_a_failure_good(store: Warehouse) -> None:
    scored = manifest(store, "score", NIGHT)
    note_at(store, 1, "unchanged")
    note_at(store, 2, "failed")
    note_at(store, 3, "unchanged", job="train")
    note_at(store, 3, "unchanged", night=NIGHT)
    assert [(run.job, run.night) for run in runs.failures(store, scored)] == [("sessionize", str(NEXT))]
    note_at(store, 3, "unchanged")
    assert runs.failures(store, scored) == []


def test_a_damaged_manifest_is_told_once_and_hides_no_other_run(
    store: Warehouse, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = str(published.config(store.root))
    published.publish_night(store, BEFORE, law_days=20.0)
    assert cli.main(["report", "--config", config, "--as-of", str(BEFORE)]) == 0
    run_id = manifest(store, "sessionize", BEFORE)["run_id"]
    note(store, "sessionize", BEFORE, run_id=run_id)
    capsys.readouterr()
    damaged = [store.night_link(job, BEFORE) / "manifest.json" for job in ("sessionize", "report")]
    for path in damaged:
        path.write_text("{")
    assert cli.main(["runs", "--json", "--config", config]) == 0
    found = {run["run_id"]: run for run in map(json.loads, capsys.readouterr().out.splitlines())}
    assert (found[run_id]["state"], found[run_id]["rows"]) == ("published", {})
    assert manifest(store, "score", NIGHT)["run_id"] in found
    assert cli.main(["report", "--config", config, "--as-of", str(NIGHT)]) == 0
    for path in damaged:
        assert [line.startswith(f"{path}: cannot be read") for line in caplog.messages].count(True) == 1


def test_what_failed_before_the_night_was_scored_is_past(store: Warehouse) -> None:
    note(store, "sessionize", NEXT, code=4)
    scored = {**manifest(store, "score", NIGHT), "published_at": "2100-01-01T00:00:00+00:00"}
    assert runs.failures(store, scored) == []


def test_a_failure_since_stands_at_the_top_of_the_report(store: Warehouse, capfd: pytest.CaptureFixture[str]) -> None:
    from halflife.report import facts
    from halflife.report.page import page

    failed = runs.Run("score", str(NEXT), "failed", "2026-03-02T03:00:00+00:00", None, 4, "<b>drift</b>")
    shown = page(facts.read(store, NIGHT), [failed])
    assert "&lt;b&gt;drift" in shown
    assert shown.index("drift") < shown.index("pairs scored")
