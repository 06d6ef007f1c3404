"""Training from a Spark job: Horovod ranks as Spark tasks, the published model back in a folder."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from halflife.config import Config
from halflife.errors import ConfigError
from halflife.model import artifact
from halflife.training import feed
from halflife.training.task import RankResult, Report, TrainingTask

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOOK_EVERY_SECONDS = 0.5
# A rank has one core; TensorFlow's own pools are set in the rank, these are the libraries' below it.
RANK_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # petastorm reads by pyarrow's legacy dataset, which warns of it at every row group.
    "PYTHONWARNINGS": "ignore::FutureWarning",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}


@dataclass(frozen=True)
class TrainedModel:
    """A model that is not published yet: its figures and its folder."""

    metrics: dict[str, float]
    directory: Path


def train_model(
    spark: SparkSession,
    training_rows_path: Path,
    items: pd.DataFrame,
    event_types: list[str],
    as_of_seconds: float,
    config: Config,
    work_dir: Path,
    report: Report,
) -> TrainedModel:
    """Train on the Parquet table `training_rows_path` (columns of `sequences`, one row a user) before `as_of_seconds`.

    `items` has item_index 0..n-1 in order, item_id and category. The model is written to `work_dir`/model and checked
    by loading it. `report` hears of every step of the training. On a cluster both folders must be visible to all nodes.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    directory = work_dir / "model"
    if config.model.kind == "exponential":
        return _exponential(directory, items, event_types, as_of_seconds, config)
    if config.train.validation_days < config.model.horizon_days:
        raise ConfigError(
            f"train.validation_days: {config.train.validation_days} days do not hold one horizon "
            f"(model.horizon_days: {config.model.horizon_days:g})"
        )
    feed.check_folder(training_rows_path)
    items_path = work_dir / "items.parquet"
    items[["item_index", "item_id", "category"]].to_parquet(items_path, index=False)
    task = TrainingTask(
        rows=training_rows_path.resolve(),
        items=items_path.resolve(),
        model_directory=directory.resolve(),
        progress_file=(work_dir / "progress.jsonl").resolve(),
        event_types=tuple(event_types),
        as_of_seconds=as_of_seconds,
        sequence_length=config.sessionize.sequence_length,
        model=config.model,
        train=config.train,
        config=config.model_dump(mode="json", include={"model", "train", "sessionize", "event_types"}),
    )
    with _following(task.progress_file, report):
        results = run_ranks(spark, task)
    artifact.load(directory)
    return TrainedModel(results[0].metrics, directory)


def run_ranks(spark: SparkSession, task: TrainingTask) -> list[RankResult]:
    """Run the training function on `train.ranks` Horovod ranks in Spark tasks; their results by rank."""
    import horovod.spark

    context = spark.sparkContext
    ranks = task.train.ranks
    if context.defaultParallelism < ranks:
        raise ConfigError(f"train.ranks: {ranks} ranks need as many cores, the master has {context.defaultParallelism}")
    local = str(context.master).startswith("local")
    results: list[RankResult] = horovod.spark.run(
        _train_rank,
        args=(task,),
        num_proc=ranks,
        use_gloo=True,
        nics={"lo"} if local else None,
        env={**os.environ, **RANK_ENVIRONMENT},
        start_timeout=task.train.start_timeout_seconds,
        verbose=0,
    )
    return results


def _train_rank(task: TrainingTask) -> RankResult:
    """Imported late: the driver needs no TensorFlow."""
    from halflife.training.loop import train_rank

    return train_rank(task)


def _exponential(
    directory: Path, items: pd.DataFrame, event_types: list[str], as_of_seconds: float, config: Config
) -> TrainedModel:
    law = artifact.exponential(
        directory,
        half_life_days=config.model.half_life_days,
        horizon_days=config.model.horizon_days,
        sequence_length=config.sessionize.sequence_length,
        items=items,
        event_types=event_types,
        as_of_seconds=as_of_seconds,
        config=config.model_dump(mode="json", include={"model"}),
    )
    return TrainedModel(law.manifest.metrics, directory)


@contextmanager
def _following(path: Path, report: Report) -> Iterator[None]:
    """Read the progress file along while the ranks write it, and report each line."""
    path.write_text("", encoding="utf-8")
    over = threading.Event()

    def follow() -> None:
        with path.open(encoding="utf-8") as file:
            rest = ""
            while True:
                last_look = over.wait(LOOK_EVERY_SECONDS)
                *lines, rest = (rest + file.read()).split("\n")
                for line in lines:
                    _pass_on(json.loads(line), report)
                if last_look:
                    return

    follower = threading.Thread(target=follow, name="training progress", daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def _pass_on(line: dict[str, Any], report: Report) -> None:
    report(line["stage"], line["done"], line["total"], line["message"])
