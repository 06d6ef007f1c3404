"""Nights of sessionize and score over a log that a test writes day by day."""

from __future__ import annotations

import shutil
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np

from halflife import config as configuration
from halflife.command import Job
from halflife.model import artifact
from halflife.model.architecture import Architecture
from halflife.nights import instant
from halflife.pipelines import score, sessionize
from halflife.warehouse import Warehouse

CONFIG = """\
warehouse: {folder}/warehouse
sources:
  log:
    path: {folder}/log/{{date}}.csv
    format: csv
    event_type: view
    columns: {{user: u, item: i, time: t}}
    required: false
event_types: {{view: {{weight: 1.0}}}}
items: {{path: "{folder}/items.csv", format: csv, id: item, category: kind}}
sessionize: {{sequence_length: 5, allow_empty_night: true}}
model: {{half_life_days: 10, horizon_days: 7}}
score: {{users_per_file: 2}}
"""
MEMBERS = 'users: {{path: "{folder}/users.csv", format: csv, id: user}}\n'
FIRST = date(2026, 5, 1)
Scores = dict[tuple[str, str], float]


class Nights:
    """A log in which events are written by the day of their arrival, and the nights that were run over it."""

    def __init__(self, folder: Path, members: tuple[str, ...] = ()) -> None:
        """`members` are users who are known, with or without events."""
        self.folder = folder
        (folder / "log").mkdir(parents=True)
        text = CONFIG + (MEMBERS if members else "")
        (folder / "config.yaml").write_text(text.format(folder=folder))
        (folder / "users.csv").write_text("".join(f"{line}\n" for line in ("user", *members)))
        self.assortment("apple", "pear", "plum")

    @property
    def store(self) -> Warehouse:
        return Warehouse(self.folder / "warehouse")

    def assortment(self, *items: str) -> None:
        (self.folder / "items.csv").write_text(
            "".join(f"{line}\n" for line in ("item,kind", *(f"{i},fruit" for i in items)))
        )

    def log(self, day: int, *events: tuple[str, str, int]) -> None:
        """Write or write again what arrived on a day: user, item, hour; below zero it happened on an earlier day."""
        when = FIRST + timedelta(days=day)
        times = [datetime(when.year, when.month, when.day) + timedelta(hours=hour) for *_, hour in events]
        lines = [f"{user},{item},{time.isoformat()}Z" for (user, item, _), time in zip(events, times, strict=True)]
        (self.folder / "log" / f"{when}.csv").write_text("\n".join(["u,i,t", *lines]) + "\n")

    def run(self, *days: int, jobs: tuple[str, ...] = ("sessionize", "score")) -> None:
        config = configuration.load(self.folder / "config.yaml")
        pipelines = {"sessionize": sessionize.run, "score": score.run}
        for day in days:
            night = FIRST + timedelta(days=day)
            for job in jobs:
                pipelines[job](Job(job, night, config, sys.stdout, until=night))

    def train(self, day: int, seed: int) -> None:
        """Publish a network of random weights that knows the items of a night."""
        as_of = FIRST + timedelta(days=day)
        items = duckdb.sql(f"SELECT item_index, item_id, category FROM '{self._files('items', day)}' ORDER BY ALL").df()
        architecture = Architecture(
            items=len(items),
            event_types=1,
            categories=2,
            half_lives_days=(1.0, 10.0, 90.0),
            horizon_days=7.0,
            sequence_length=5,
            vector_size=4,
            encoder_units=(6, 5),
            jump_units=7,
            item_traits=3,
        )
        random = np.random.default_rng(seed)
        shapes = architecture.shapes_for_scoring()
        weights = {name: random.normal(scale=0.3, size=shape).astype(np.float32) for name, shape in shapes.items()}
        run = self.store.begin("train", as_of, {"seed": seed})
        assert run is not None
        manifest = artifact.save(
            run.path("models"),
            architecture=architecture,
            weights={**weights, "half_lives_days": np.array(architecture.half_lives_days, dtype=np.float32)},
            items=items,
            event_types=("view",),
            as_of_seconds=instant(as_of).timestamp(),
            metrics={},
            config={},
        )
        self.store.publish(run, {}, {"version": manifest.version, "kind": manifest.kind})

    def from_scratch(self, folder: Path, day: int) -> Nights:
        """The same histories and models, of which only one night is scored: nothing is there to be carried over."""
        shutil.copytree(self.folder, folder, symlinks=True)
        for link in (folder / "warehouse" / "_nights" / "score").iterdir():
            link.unlink()
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace(str(self.folder), str(folder)))
        anew = object.__new__(Nights)
        anew.folder = folder
        anew.run(day, jobs=("score",))
        return anew

    def _files(self, table: str, day: int) -> str:
        return f"{self.folder}/warehouse/{table}/as_of={FIRST + timedelta(days=day)}/*.parquet"

    def scores(self, day: int) -> Scores:
        rows = duckdb.sql(f"SELECT user_id, item_id, score FROM '{self._files('scores', day)}'").fetchall()
        return {(user, item): value for user, item, value in rows}

    def table(self, name: str, day: int) -> list[tuple[object, ...]]:
        """The rows of a table, in order."""
        files = f"read_parquet('{self._files(name, day)}', hive_partitioning = false)"
        return duckdb.sql(f"FROM {files} ORDER BY ALL").fetchall()

    def figures(self, day: int) -> dict[str, object]:
        manifest = self.store.manifest("score", FIRST + timedelta(days=day))
        assert manifest is not None
        figures: dict[str, object] = manifest["metrics"]
        return figures
