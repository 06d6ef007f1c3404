"""The DAGs as Airflow reads them: no warning, quickly, and each task's command to the letter."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import halflife_tasks
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from nightly import ROOT, load, write_settings

GOLDEN = Path(__file__).parent / "golden"
NIGHT = datetime(2026, 3, 1, 2, tzinfo=UTC)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of an installation in /opt, say."""
    keys = {"home": "/opt/halflife", "logs": "/var/log/halflife", "retry_minutes": 5, "settle_minutes": 10}
    path = write_settings(tmp_path / "airflow.yaml", **keys)
    monkeypatch.setenv("HALFLIFE_AIRFLOW", str(path))
    return path


def test_the_shipped_settings_load_without_a_warning_within_a_second() -> None:
    bag = DagBag(ROOT / "jobs/dags")
    assert sorted(bag.dags) == ["halflife_nightly", "halflife_train"]
    assert bag.import_errors == {}
    assert bag.captured_warnings == {}
    assert sum((stat.duration for stat in bag.dagbag_stats), timedelta()) < timedelta(seconds=1)


def test_reading_the_dags_imports_nothing_of_the_library() -> None:
    code = "import sys, halflife_nightly, halflife_train; print('halflife' in sys.modules)"
    folder = ROOT / "jobs/dags"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_wrong_key_of_the_settings_is_named(installed: Path) -> None:
    write_settings(installed, retires=3)
    (error,) = {text.strip().splitlines()[-1] for text in DagBag(ROOT / "jobs/dags").import_errors.values()}
    assert f"{installed}: unknown key retires" in error


@pytest.mark.parametrize("dag_id", ["halflife_nightly", "halflife_train"])
def test_the_commands_are_the_golden_ones(dag_id: str, installed: Path) -> None:
    dag = load(dag_id)
    shown = "\n".join(command(dag, task.task_id) for task in dag.topological_sort())
    golden = GOLDEN / f"{dag_id}.txt"
    assert shown == golden.read_text(encoding="utf-8"), f"as it is now:\n{shown}"


def test_each_published_table_has_an_asset() -> None:
    code = "import json, halflife.warehouse as w; print(json.dumps(dict(w.TABLES)))"
    done = subprocess.run([ROOT / ".venv/bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert {job: list(tables) for job, tables in halflife_tasks.TABLES.items()} == json.loads(done.stdout)
    outlets = {
        asset.name
        for dag_id in ("halflife_nightly", "halflife_train")
        for task in load(dag_id).tasks
        for asset in task.outlets
    }
    assert outlets == {f"halflife/{table}" for tables in halflife_tasks.TABLES.values() for table in tables}


def command(dag: DAG, task_id: str) -> str:
    """A task's command for a night, one option a line, with the variables it sets."""
    task: Any = dag.get_task(task_id)
    run = SimpleNamespace(run_after=NIGHT, run_type="scheduled")
    context = {
        "params": {"as_of": None},
        "data_interval_end": NIGHT,
        "dag_run": run,
        "ti": SimpleNamespace(try_number=1),
        "task": task,
    }
    task.render_template_fields(context)
    if not hasattr(task, "application"):
        words = ["/opt/halflife/.venv/bin/halflife", *task.arguments]
        return f"# {task_id}\n" + " ".join(words) + "\n"
    words = task._get_hook()._build_spark_submit_command(task.application)
    variables = [f"{name}={value}" for name, value in task.env_vars.items()]
    options = shlex.join(words).replace(" --", "\n  --")
    return f"# {task_id}\n" + "\n".join([*variables, options]) + "\n"
