"""Runs of the DAGs as `airflow dags test` makes them: tasks in this process, jobs in their own."""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta
from pathlib import Path

import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

ROOT = Path(__file__).resolve().parents[2]
HOUR = 2  # of the schedule


def write_settings(path: Path, **keys: object) -> Path:
    """A file like jobs/dags/halflife.yaml for tests: retries at once, takes files that have just been written."""
    first = date(2026, 1, 1)
    settings = {"config": "conf/shop.yaml", "first_night": first, "retry_minutes": 0, "settle_minutes": 0, **keys}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def load(dag_id: str) -> DAG:
    """A DAG as Airflow finds it; HALFLIFE_AIRFLOW says by which settings."""
    bag = DagBag(ROOT / "jobs/dags")
    assert bag.import_errors == {}
    return bag.dags[dag_id]


def run(dag: DAG, night: date) -> dict[str, tuple[str, int]]:
    """Run a DAG for a night; returns each task's state and how often it was tried. A second run clears the first."""
    begin = datetime.combine(night, time(HOUR)).astimezone(tz=dag.timezone)
    done = dag.test(logical_date=begin, run_after=begin)  # a run by hand, of which run_after says the night
    assert done.data_interval_end.date() == night
    assert done.data_interval_start == done.data_interval_end - timedelta(days=1)
    return {ti.task_id: (str(ti.state), ti.try_number) for ti in done.get_task_instances()}


if __name__ == "__main__":  # nights to make, one after the other
    nightly = load("halflife_nightly")
    for argument in sys.argv[1:]:
        states = run(nightly, date.fromisoformat(argument))
        if {state for state, _ in states.values()} != {"success"}:
            sys.exit(f"{argument}: {states}")
