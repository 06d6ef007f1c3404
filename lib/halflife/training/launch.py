"""Training from a job: Horovod ranks as Spark tasks or as processes of horovodrun, the model back in a folder."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from halflife.config import Config, TrainConfig
from halflife.errors import ConfigError, HalflifeError, InputMissingError
from halflife.escapes import redacted_tree
from halflife.model import artifact
from halflife.training import checkpoint, feed, horovodrun
from halflife.training.fit import fitted_half_life
from halflife.training.leftovers import Keep
from halflife.training.lifeline import BEAT_EVERY_SECONDS
from halflife.training.silence import SilentError, listening
from halflife.training.task import ProgressFile, RankResult, Report, Rival, TrainingTask

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOOK_EVERY_SECONDS = 0.5
# A rank has one core; TensorFlow's own pools are set in the rank, these are the libraries' below it.
RANK_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    # petastorm reads by pyarrow's legacy dataset, which warns of it at every row group.
    "PYTHONWARNINGS": "ignore::FutureWarning",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
# Ranks ask each other so often, in ms, whether there is something to add up; the environment can say otherwise. Every
# 1 ms, Horovod's own, took 7 % of a rank's core; a sum waits half as long on average, and a step makes two.
CYCLE_TIME: Final = {"HOROVOD_CYCLE_TIME": "3"}
LOOPBACK: Final = "lo"
LEAST_SILENCE_SECONDS: Final = 3 * BEAT_EVERY_SECONDS
# In what a rank says that ends because another one did: the name of the operation that broke.
ECHO: Final = "Horovod"


log = logging.getLogger(__name__)


class RankLostError(HalflifeError):
    """A rank has died, with its node say: to begin again may help."""


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
    keep: Keep,
    champion: Rival | None = None,
) -> TrainedModel:
    """Train on the Parquet table `training_rows_path` (columns of `sequences`, one row a user) before `as_of_seconds`.

    `items` has the columns of the items table, item_index 0..n-1 in order. The model is written to `work_dir`/model and
    checked by loading it. `report` hears of every step of the training. A run that was killed goes on from what `keep`
    holds, and the caller holds its lifeline; `champion` is a published model to be compared with on the validation
    days that it has not seen.
    On a cluster all folders must be visible to all nodes.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    directory = work_dir / "model"
    if config.model.kind == "exponential":
        law_days = _law_days(training_rows_path, len(items), as_of_seconds, config)
        return TrainedModel(exponential(directory, law_days, items, event_types, as_of_seconds, config), directory)
    _check(config)
    feed.check_folder(training_rows_path)
    items_path = work_dir / "items.parquet"
    content = [name for name in ("features", "vectors") if name in items and items[name].map(bool).any()]
    items[["item_index", "item_id", "category", *content]].to_parquet(items_path, index=False)
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
        config=redacted_tree(config.model_dump(mode="json", include={"model", "train", "sessionize", "event_types"})),
        keep=keep.checkpoints.resolve(),
        champion=champion,
        events=None if keep.events is None else keep.events.resolve(),
    )
    with _following(task.progress_file, report):
        results = run_ranks(spark, task)
    artifact.load(directory)
    return TrainedModel(results[0].metrics, directory)


def _law_days(rows: Path, items: int, as_of_seconds: float, config: Config) -> float:
    """The half-life of the exponential law: as the config gives it, or fitted to as many users as validation takes."""
    given = config.model.half_life_days
    if not config.model.fit_half_life:
        return given
    feed.check_folder(rows)
    train = config.train
    users = feed.histories(
        rows, before_seconds=as_of_seconds, shard=0, shards=1, seed=train.seed, shuffle_rows=train.shuffle_rows
    )
    return fitted_half_life(islice(users, train.validation_users), items, as_of_seconds, given)


def exponential(
    directory: Path,
    half_life_days: float,
    items: pd.DataFrame,
    event_types: list[str],
    as_of_seconds: float,
    config: Config,
) -> dict[str, float]:
    """Write the classical law with a half-life as a model; returns its figures."""
    law = artifact.exponential(
        directory,
        half_life_days=half_life_days,
        horizon_days=config.model.horizon_days,
        sequence_length=config.sessionize.sequence_length,
        items=items,
        event_types=event_types,
        as_of_seconds=as_of_seconds,
        config=config.model_dump(mode="json", include={"model"}),
    )
    return law.manifest.metrics


def run_ranks(spark: SparkSession, task: TrainingTask) -> list[RankResult]:
    """Run the training function on `train.ranks` Horovod ranks; their results by rank.

    A rank that fails or dies ends them all; where one has died, they begin again `train.restarts` times at most, but
    not where none had a word to say yet: what keeps them from starting would do so again.
    Raises HalflifeError that says which rank, and where the next run goes on.
    """
    for left in range(task.train.restarts, 0, -1):
        try:
            return _run_once(spark, task)
        except RankLostError as error:
            if not task.progress_file.stat().st_size:
                raise
            log.warning("%s", error)
            ProgressFile(task.progress_file).report("restart", left, task.train.restarts, str(error))
    return _run_once(spark, task)


def _run_once(spark: SparkSession, task: TrainingTask) -> list[RankResult]:
    file, ranks = task.write(), range(task.train.ranks)
    for rank in ranks:
        task.result_file(rank).unlink(missing_ok=True)
    try:
        with _listening(task):
            if task.train.launcher == "spark":
                _run_in_spark(spark, file, task.train)
            else:
                _run_on_hosts(file, task.train)
    except ConfigError:
        raise
    except SilentError as error:
        raise RankLostError(f"training ended: {error}; {_remedy(task)}") from error
    except Exception as error:
        raise _failure(task, [RankResult.read(task, rank) for rank in ranks], str(error)) from error
    results = [RankResult.read(task, rank) for rank in ranks]
    done = [result for result in results if result is not None and result.error is None]
    if len(done) < len(results):
        raise _failure(task, results, "")
    return done


def _listening(task: TrainingTask) -> AbstractContextManager[None]:
    """End the block when a rank falls silent for longer than any may keep the others waiting."""
    if task.keep is None:
        return nullcontext()
    limit_seconds = max(task.train.stall_timeout_seconds, LEAST_SILENCE_SECONDS)
    return listening(task.keep, task.train.ranks, lambda rank: task.result_file(rank).exists(), limit_seconds)


def _check(config: Config) -> None:
    """Raises ConfigError for what would only show when the ranks run."""
    train = config.train
    if train.validation_days < config.model.horizon_days:
        raise ConfigError(
            f"train.validation_days: {train.validation_days} days do not hold one horizon "
            f"(model.horizon_days: {config.model.horizon_days:g})"
        )
    if train.mlflow_uri is not None and find_spec("mlflow") is None:
        raise ConfigError("train.mlflow_uri: MLflow is not installed: pip install 'halflife[mlflow]'; or leave it null")


def _run_in_spark(spark: SparkSession, file: Path, train: TrainConfig) -> None:
    """Every rank is a Spark task."""
    import horovod.spark

    context = spark.sparkContext
    if context.defaultParallelism < train.ranks:  # on a cluster that gets its executors later it is what was asked for
        raise ConfigError(
            f"train.ranks: {train.ranks} ranks need as many cores, the master has {context.defaultParallelism}"
        )
    interface = _interface(train, local=str(context.master).startswith("local"))
    horovodrun.listen_on(interface)
    horovod.spark.runner._task_fn = horovodrun.spark_task
    horovod.spark.run(
        _rank,
        args=(str(file),),
        num_proc=train.ranks,
        use_gloo=True,
        nics={interface},
        env=_environment(train, {name: value for name, value in os.environ.items() if name.startswith("HOROVOD_")}),
        # The Python of the executors, which may be another machine's.
        executable=context.pythonExec,
        start_timeout=train.start_timeout_seconds,
        verbose=0,
    )


def _interface(train: TrainConfig, local: bool) -> str:
    """What Horovod's services listen on: loopback where all ranks are on this machine, whatever interface is chosen.

    Raises ConfigError where several machines need one, and none is chosen or it is not there.
    """
    if local:
        return LOOPBACK
    if train.network_interface is None:
        raise ConfigError(
            "train.network_interface: ranks on several machines talk over connections that ask for no password; name "
            "the interface of a private network that all of them have, eth1 say"
        )
    horovodrun.address_of(train.network_interface)
    return train.network_interface


def _rank(file: str) -> int:
    from halflife.train import run

    return run(Path(file))


def _run_on_hosts(file: Path, train: TrainConfig) -> None:
    """Every rank is a process that horovodrun starts, over ssh where it is not on this machine."""
    hosts = f"localhost:{train.ranks}" if train.hosts == "localhost" else train.hosts
    command = [
        *(sys.executable, "-m", "halflife.training.horovodrun"),
        *("-np", str(train.ranks), "-H", hosts, "--gloo"),
        *("--start-timeout", str(train.start_timeout_seconds)),
        *("--network-interfaces", _interface(train, horovodrun.all_here(hosts))),
        *(sys.executable, "-m", "halflife.train", str(file)),
    ]
    subprocess.run(command, env=_environment(train, os.environ), check=True)


def _environment(train: TrainConfig, given: Mapping[str, str]) -> dict[str, str]:
    """What a rank finds in its environment over that of the process which starts it."""
    limit = str(train.stall_timeout_seconds)
    # A rank that dies breaks its connections at once; one that hangs is waited for so long.
    stall = {
        "HOROVOD_STALL_CHECK_TIME_SECONDS": str(min(60, train.stall_timeout_seconds)),
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": limit,
        "HOROVOD_GLOO_TIMEOUT_SECONDS": limit,
    }
    return {**CYCLE_TIME, **given, **RANK_ENVIRONMENT, **stall}


def _failure(task: TrainingTask, results: list[RankResult | None], said: str) -> HalflifeError:
    """What went wrong, from what the ranks left: the first cause rather than its echo on the other ranks.

    `said` is the launcher's word for it.
    """
    failed = [result for result in results if result is not None and result.error is not None]
    for result in failed:
        if result.exit_code == ConfigError.exit_code:
            return ConfigError(result.error)
        if result.exit_code == InputMissingError.exit_code:
            return InputMissingError(result.error)
    remedy = _remedy(task)
    for result in failed:
        if ECHO not in str(result.error):
            return HalflifeError(f"training failed on rank {result.rank}: {result.error}; {remedy}")
    silent = [str(rank) for rank, result in enumerate(results) if result is None]
    if len(silent) == len(results):
        return RankLostError(f"training ended without a word from any rank ({' '.join(said.split())[:200]}); {remedy}")
    return RankLostError(f"training ended: rank {', '.join(silent) or '?'} died without a word (killed?); {remedy}")


def _remedy(task: TrainingTask) -> str:
    position = None if task.keep is None else checkpoint.position_in(task.keep)
    return f"run again: it goes on from {position.words}" if position else "run again: there is no checkpoint yet"


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
