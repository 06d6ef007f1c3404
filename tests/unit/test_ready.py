"""Whether a night's inputs are there, as a scheduler asks: by the rules of the jobs themselves."""

from __future__ import annotations

import os
import time
from datetime import date
from pathlib import Path

import pytest

import published_warehouse as published
from halflife import cli
from halflife.warehouse import Warehouse

CONFIG = """\
warehouse: {folder}/warehouse
sources:
  orders:
    path: "{folder}/orders/{{date}}.csv"
    format: csv
    event_type: order
    columns: {{user: u, item: i, time: t}}
  plays:
    path: "{folder}/plays/{{date}}.csv"
    format: csv
    event_type: play
    columns: {{user: u, item: i, time: t}}
    required: false
event_types: {{order: {{weight: 1}}, play: {{weight: 1}}}}
sessionize: {{allow_empty_night: {empty}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(folder=tmp_path, empty="false"))
    return path


def deliver(folder: Path, source: str, *days: int) -> None:
    (folder / source).mkdir(exist_ok=True)
    for day in days:
        (folder / source / f"2026-03-{day:02}.csv").write_text("u,i,t\n")


def ready(config: Path, job: str, as_of: str, *options: str) -> int:
    return cli.main(["ready", job, "--config", str(config), "--as-of", as_of, *options])


def test_a_night_is_ready_when_each_required_source_has_its_day(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(tmp_path, "orders", 1, 2)
    assert ready(config, "sessionize", "2026-03-03") == 0
    assert capsys.readouterr().out == "2 files for the night of 2026-03-03\n"
    deliver(tmp_path, "plays", 3)
    published.publish_night(Warehouse(tmp_path / "warehouse"), date(2026, 3, 3), law_days=7.0)
    assert ready(config, "sessionize", "2026-03-04") == 3
    assert "sources.orders.path: no file for 2026-03-03" in capsys.readouterr().err
    deliver(tmp_path, "orders", 3)
    assert ready(config, "sessionize", "2026-03-04") == 0


def test_a_first_night_waits_for_the_day_before_it(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(tmp_path, "orders", 1)
    assert ready(config, "sessionize", "2026-03-03") == 3
    assert "sources.orders.path: no file for 2026-03-02" in capsys.readouterr().err
    deliver(tmp_path, "orders", 2)
    assert ready(config, "sessionize", "2026-03-03") == 0  # plays are not required


@pytest.mark.parametrize("section", ["users", "items"])
def test_a_night_waits_for_its_catalogues(
    config: Path, tmp_path: Path, section: str, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue = tmp_path / f"{section}.csv"
    with config.open("a") as text:
        text.write(f"{section}: {{path: {catalogue}, format: csv, id: id}}\n")
    deliver(tmp_path, "orders", 2)
    assert ready(config, "sessionize", "2026-03-03") == 3
    assert f"{section}.path: nothing matches {catalogue}" in capsys.readouterr().err
    catalogue.write_text("id\n")
    assert ready(config, "sessionize", "2026-03-03") == 0


def test_a_file_is_there_when_nothing_has_changed_it_for_a_while(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(tmp_path, "orders", 2)
    file = tmp_path / "orders/2026-03-02.csv"
    os.utime(file, (0, 0))  # its content is old, it came just now
    assert ready(config, "sessionize", "2026-03-03", "--settled-minutes", "10") == 3
    assert f"{file}: changed in the last 10 minutes" in capsys.readouterr().err
    later = time.time() + 601
    monkeypatch.setattr("time.time", lambda: later)
    assert ready(config, "sessionize", "2026-03-03", "--settled-minutes", "10") == 0


@pytest.mark.parametrize(("empty", "code"), [("false", 3), ("true", 0)])
def test_a_night_without_a_file_is_ready_only_where_one_may_be_empty(
    config: Path, tmp_path: Path, empty: str, code: int
) -> None:
    text = CONFIG.format(folder=tmp_path, empty=empty)
    config.write_text(text.replace("event_type: order", "event_type: order\n    required: false"))
    assert ready(config, "sessionize", "2026-03-03") == code


def test_training_and_scoring_are_ready_when_the_night_is_sessionized(config: Path, tmp_path: Path) -> None:
    published.publish_night(Warehouse(tmp_path / "warehouse"), date(2026, 3, 3), law_days=7.0)
    for job in ("train", "score"):
        assert ready(config, job, "2026-03-03") == 0
        assert ready(config, job, "2026-03-04") == 3
