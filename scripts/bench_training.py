"""What the benchmarks of the model share: a log brought to a training table by the jobs, and runs of the training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bench_processes import HOME, fresh_folder, spark_submit

from halflife import config as configuration
from halflife.config import Config, ModelConfig, TrainConfig
from halflife.nights import instant
from halflife.synthetic import SyntheticLog
from halflife.training.launch import RANK_ENVIRONMENT
from halflife.training.task import RankResult, TrainingTask

PARALLEL = 2  # runs side by side, each on a core


@dataclass(frozen=True)
class Table:
    """A training table: the config of its log, the night, and the folder with rows/ and items.parquet."""

    config: Config
    as_of: date
    folder: Path


def sessionized(log: SyntheticLog, folder: Path, **sections: Any) -> Path:
    """Write a log, and run the sessionize job on all of it; returns its config. `sections` go over the log's own."""
    log.write(fresh_folder(folder))
    path = folder / "config.yaml"
    tree = {**log.config(folder), **sections}
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    spark_submit("bench_job.py", path, night_of(log), events=len(log.events))
    return path


def night_of(log: SyntheticLog) -> date:
    """The night that knows all of a log."""
    return log.first_day + timedelta(days=log.days)


def training_table(config: Path, as_of: date, folder: Path) -> Table:
    """The training table of a night that is sessionized."""
    spark_submit("bench_histories.py", config, as_of, fresh_folder(folder), events=1)
    return Table(configuration.load(config), as_of, folder)


def task(table: Table, folder: Path, model: Mapping[str, Any], train: Mapping[str, Any]) -> TrainingTask:
    """One run on one rank, in a new `folder`; `model` and `train` are keys that differ from the table's config."""
    changed = {
        "model": ModelConfig.model_validate({**table.config.model.model_dump(), **model}),
        "train": TrainConfig.model_validate({**table.config.train.model_dump(), "ranks": 1, **train}),
    }
    config = table.config.model_copy(update=changed)
    return TrainingTask(
        rows=table.folder / "rows",
        items=table.folder / "items.parquet",
        model_directory=fresh_folder(folder) / "model",
        progress_file=folder / "progress.jsonl",
        event_types=tuple(config.event_types),
        as_of_seconds=instant(table.as_of).timestamp(),
        sequence_length=config.sessionize.sequence_length,
        model=config.model,
        train=config.train,
        config=config.model_dump(mode="json", include={"model", "train", "sessionize", "event_types"}),
    )


def trained(tasks: Sequence[TrainingTask], parallel: int = PARALLEL) -> Iterator[dict[str, float]]:
    """Figures of each run, in order; so many processes at a time. Raises SystemExit that names the log of one that
    failed."""
    with ThreadPoolExecutor(parallel) as pool:
        yield from pool.map(_run, tasks)


def _run(one: TrainingTask) -> dict[str, float]:
    log = one.model_directory.with_name("train.log")
    environment = {**os.environ, **RANK_ENVIRONMENT, "PYTHONPATH": str(HOME / "lib")}
    with log.open("w", encoding="utf-8") as file:
        command = [sys.executable, "-m", "halflife.train", str(one.write())]
        code = subprocess.run(command, env=environment, stdout=file, stderr=file, check=False).returncode
    result = RankResult.read(one, 0)
    if code or result is None:
        sys.exit(f"training ended with exit code {code}, log: {log}")
    return result.metrics


def write_json(path: Path | None, objects: Sequence[Mapping[str, Any]]) -> None:
    """One object a line, where a file is asked for."""
    if path is not None:
        path.write_text("".join(json.dumps(found) + "\n" for found in objects), encoding="utf-8")


def cell(values: Sequence[float]) -> str:
    """Mean and standard deviation over runs, for a table."""
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.4g} ± {spread:.2g}"
