"""Two Horovod ranks in Spark tasks, fed by petastorm: equal weights at the end, whatever the shards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pyspark.sql import SparkSession

from halflife.config import Config
from halflife.errors import ConfigError
from halflife.model import artifact
from halflife.training import launch, lifeline
from halflife.training.launch import TrainedModel
from halflife.training.leftovers import Keep
from halflife.training.task import TrainingTask
from training_log import AS_OF, ITEMS, row_of, user_events, write_rows

Line = tuple[str, int, int, str]

TYPES = ["purchase", "cancel"]
CONFIG = Config.model_validate(
    {
        "warehouse": "unused",
        "sources": {
            "log": {"path": "unused", "event_type": "purchase", "columns": {"user": "u", "item": "i", "time": "t"}}
        },
        "event_types": {"purchase": {"weight": 1.0}, "cancel": {"weight": -0.5}},
        "sessionize": {"sequence_length": 16},
        "model": {"vector_size": 4, "encoder_units": [6, 5], "jump_units": 5, "item_traits": 2, "half_life_days": 30.0},
        "train": {"epochs": 2, "users_per_batch": 4, "cuts_per_user": 2, "validation_days": 21, "negatives": 8},
    }
)


@pytest.fixture(scope="module")
def two_ranks(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, list[Line], Path]:
    """A model trained by two ranks, what was reported meanwhile, and the folder of its rows."""
    folder = tmp_path_factory.mktemp("two")
    write_rows(folder / "rows", [row_of(user_events(user)) for user in range(24)], [12, 2, 10])
    lines: list[Line] = []

    def report(*line: Any) -> None:
        lines.append(line)
        heard.update(listening())

    with lifeline.held(folder / "keep"):
        trained = launch.train_model(
            spark, folder / "rows", ITEMS, TYPES, AS_OF, CONFIG, folder / "work", report, Keep(folder / "keep")
        )
    return trained, lines, folder / "rows"


heard: set[str] = set()


def listening() -> Iterator[str]:
    """Addresses that this process and all below it listen on."""
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # short-lived ones end meanwhile
            yield from (c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN)


def refused(spark: SparkSession, folder: Path, config: Config) -> None:
    """Training by a config that is refused."""
    keep = Keep(folder / "keep")
    launch.train_model(spark, folder / "rows", ITEMS, TYPES, AS_OF, config, folder / "work", lambda *_: None, keep)


def task(rows: Path, work: Path) -> TrainingTask:
    ITEMS.to_parquet(work / "items.parquet", index=False)
    return TrainingTask(
        rows=rows,
        items=work / "items.parquet",
        model_directory=work / "model",
        progress_file=work / "progress.jsonl",
        event_types=tuple(TYPES),
        as_of_seconds=AS_OF,
        sequence_length=16,
        model=CONFIG.model,
        train=CONFIG.train,
        config={},
    )


def test_two_ranks_train_one_model(two_ranks: tuple[TrainedModel, list[Line], Path]) -> None:
    trained, lines, _ = two_ranks
    model = artifact.load(trained.directory)
    assert model.kind == "neural"
    assert np.isfinite(list(trained.metrics.values())).all()
    assert trained.metrics["epochs"] == 2
    assert any("epoch 2 of 2" in line[3] and "NDCG@10" in line[3] for line in lines)
    assert all(done <= total for _, done, total, _ in lines)


def test_nothing_listens_but_on_loopback(two_ranks: tuple[TrainedModel, list[Line], Path]) -> None:
    assert "127.0.0.1" in heard
    assert {address.removeprefix("::ffff:") for address in heard} == {"127.0.0.1"}


def test_the_same_seed_gives_the_same_model_on_every_rank(
    spark: SparkSession, two_ranks: tuple[TrainedModel, list[Line], Path], tmp_path: Path
) -> None:
    trained, _, rows = two_ranks
    first, second = launch.run_ranks(spark, task(rows, tmp_path))
    assert first.weights_sha256 == second.weights_sha256
    assert artifact.load(tmp_path / "model").version == artifact.load(trained.directory).version


def test_a_rank_without_rows_keeps_step_and_ends_with_equal_weights(spark: SparkSession, tmp_path: Path) -> None:
    # One row group: the second rank has none.
    write_rows(tmp_path / "rows", [row_of(user_events(user)) for user in range(6)], [6])
    first, second = launch.run_ranks(spark, task(tmp_path / "rows", tmp_path))
    assert (first.rank, second.rank) == (0, 1)
    assert first.weights_sha256 == second.weights_sha256
    assert first.metrics["validation_loss"] == second.metrics["validation_loss"]


def test_more_ranks_than_cores_are_refused_at_once(spark: SparkSession, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", [row_of(user_events(1))], [1])
    config = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"ranks": 64})})
    with pytest.raises(ConfigError, match=r"train\.ranks: 64 ranks need as many cores"):
        refused(spark, tmp_path, config)


def test_validation_days_that_hold_no_horizon_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", [row_of(user_events(1))], [1])
    config = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"validation_days": 3})})
    with pytest.raises(ConfigError, match=r"train\.validation_days: 3 days"):
        refused(spark, tmp_path, config)
