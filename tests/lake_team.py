"""A warehouse of small nights and the lake that they are delivered to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder

from halflife import config, crash
from halflife.command import Job, run
from halflife.delivery.table import LakeTable
from halflife.pipelines import deliver
from halflife.warehouse import Warehouse
from halflife.warehouse.layout import ID
from small_night import staged

NIGHT = date(2026, 1, 2)
NEXT = NIGHT + timedelta(days=1)
YAML = "sources: {log: {path: 'x-{date}', event_type: purchase, columns: {user: u, item: i, time: t}}}\n"


class Team:
    """A warehouse whose table `metrics` has one column, and the lake that it is delivered to.

    Several of one id are copies of one warehouse.
    """

    def __init__(self, folder: Path, address: str, warehouse: str = "one") -> None:
        folder.mkdir(exist_ok=True)
        self.address = address
        self.store = Warehouse(folder / "warehouse")
        self.store.root.mkdir(exist_ok=True)
        (self.store.root / ID).write_text(warehouse)
        self.config = folder / "config.yaml"
        self.config.write_text(
            f"warehouse: {self.store.root}\n{YAML}event_types: {{purchase: {{weight: 1}}}}\n"
            f"deliver: {{to: '{address}', tables: [metrics]}}\n"
        )

    def publish(self, night: date, *values: int, inputs: str | None = None) -> None:
        """Publish a night whose table has a file with each of the values."""
        run = staged(self.store, inputs or str(values), values[0], night)
        for place, value in enumerate(values[1:], 1):
            pq.write_table(pa.table({"value": [value]}), run.path("metrics") / f"part-{place}.parquet")
        self.store.publish(run, {}, {})

    def deliver(self, night: date, *settings: str) -> str:
        """Deliver a night; returns what the job says."""
        self.said = said = StringIO()
        run(deliver.run, Job("deliver", night, config.load(self.config, list(settings)), said, until=night))
        return said.getvalue()

    def lake(self) -> LakeTable:
        return LakeTable(f"{self.address}/metrics")

    def values(self, night: date) -> list[Any]:
        """The night as a reader of Delta sees it."""
        table = DeltaTable(f"{self.address}/metrics")
        rows = (
            QueryBuilder()
            .register("metrics", table)
            .execute(f"SELECT value FROM metrics WHERE as_of = '{night}' ORDER BY value")
        )
        found: list[Any] = pa.table(rows.read_all())["value"].to_pylist()
        return found


def at_point(monkeypatch: pytest.MonkeyPatch, part: str, act: Callable[[], Any]) -> None:
    """Do something once, when a job comes to the first crash point with `part` in its name."""
    left = [act]

    def point(name: str) -> None:
        if part in name and left:
            left.pop()()

    monkeypatch.setattr(crash, "point", point)


def job(team: Team, environment: dict[str, str]) -> int:
    """Run the job in a process of its own; returns its exit code."""
    script = Path(__file__).parents[1] / "jobs" / "deliver.py"
    command = [sys.executable, str(script), "--config", str(team.config), "--as-of", str(NIGHT)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True).returncode
