"""Whether a night's inputs are there, as a scheduler asks: by the rules of the jobs themselves."""

from __future__ import annotations

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


def ready(config: Path, job: str, as_of: str) -> int:
    return cli.main(["ready", job, "--config", str(config), "--as-of", as_of])


def test_a_night_is_ready_when_each_required_source_has_its_day(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(tmp_path, "orders", 1, 2)
    assert ready(config, "sessionize", "2026-03-03") == 0
    assert capsys.readouterr().out == "2 files for the night of 2026-03-03\n"
    deliver(tmp_path, "plays", 3)
    assert ready(config, "sessionize", "2026-03-05") == 0  # the first night reads what there is
    published.publish_night(Warehouse(tmp_path / "warehouse"), date(2026, 3, 3), law_days=7.0)
    assert ready(config, "sessionize", "2026-03-04") == 3
    assert "sources.orders.path: no file for 2026-03-03" in capsys.readouterr().err
    deliver(tmp_path, "orders", 3)
    assert ready(config, "sessionize", "2026-03-04") == 0


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
