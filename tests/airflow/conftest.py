"""A real Airflow with a home of its own: SQLite, no examples, no server, nothing listens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Airflow reads its settings when it is first imported.
HOME = Path(tempfile.mkdtemp(prefix="halflife-airflow-"))
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "jobs/dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "AIRFLOW_CONN_SPARK_HALFLIFE": json.dumps({"conn_type": "spark", "host": "local[2]"}),
}
sys.path.insert(0, str(ROOT / "jobs/dags"))


@pytest.fixture(scope="session", autouse=True)
def airflow_home() -> Iterator[Path]:
    """The home of this session's Airflow, with its database."""
    airflow = Path(sys.executable).with_name("airflow")
    made = subprocess.run([airflow, "db", "migrate"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    yield HOME
    shutil.rmtree(HOME, ignore_errors=True)
