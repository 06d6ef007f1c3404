"""Training across processes: any number of ranks, killed ranks and drivers, and the gate, on small logs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import generated_log as generated
from halflife.errors import HalflifeError, InputMissingError
from halflife.training import launch, lifeline
from halflife.training.task import RankResult, TrainingTask
from training_log import row_of, user_events, write_rows
from training_run import task_in

ROOT = Path(__file__).parents[2]
NIGHT = generated.FIRST_DAY + timedelta(days=50)
# Small steps, and enough of them to be caught in between.
SETTINGS = ("train.epochs=6", "train.patience=6", "train.checkpoint_steps=1", "train.gate=off")
# How long a job may go on when one of its ranks is dead.
BOUND_SECONDS = 90.0
STALL_SECONDS = 30


def run_ranks(task: TrainingTask) -> list[RankResult]:
    """The ranks of a task by horovodrun, which needs no Spark."""
    return launch.run_ranks(None, task)  # type: ignore[arg-type]


def curve(task: TrainingTask) -> list[list[float]]:
    """Training and validation loss of each epoch."""
    found = [json.loads(line) for line in task.progress_file.read_text().splitlines()]
    return [[line["train_loss"], line["validation_loss"]] for line in found if "train_loss" in line]


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Row groups of very different sizes."""
    folder = tmp_path_factory.mktemp("skewed") / "rows"
    write_rows(folder, [row_of(user_events(user)) for user in range(48)], [20, 2, 10, 1, 7, 8])
    return folder


@pytest.fixture(scope="module")
def one_rank(skewed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[float]], RankResult]:
    task = task_in(tmp_path_factory.mktemp("one") / "work", skewed)
    (result,) = run_ranks(task)
    return curve(task), result


@pytest.mark.parametrize("ranks", [2, 4])
def test_any_number_of_ranks_gives_the_same_loss_curve(
    skewed: Path, one_rank: tuple[list[list[float]], RankResult], tmp_path: Path, ranks: int
) -> None:
    task = task_in(tmp_path / "work", skewed, ranks=ranks)
    results = run_ranks(task)
    assert len({result.weights_sha256 for result in results}) == 1
    np.testing.assert_allclose(curve(task), one_rank[0], atol=1e-4)
    for name in ("law_loss", "law_ndcg_at_10", "validation_ndcg_at_10"):
        assert results[0].metrics[name] == pytest.approx(one_rank[1].metrics[name], abs=1e-4)


def test_ranks_without_a_row_keep_step(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", [row_of(user_events(user)) for user in range(12)], [12])
    results = run_ranks(task_in(tmp_path / "work", tmp_path / "rows", ranks=3, epochs=1))
    assert len({result.weights_sha256 for result in results}) == 1


def test_what_a_rank_misses_is_the_error_of_the_run(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", [row_of(user_events(user)) for user in range(12)], [6, 6])
    with pytest.raises(InputMissingError, match="too short for"):
        run_ranks(task_in(tmp_path / "work", tmp_path / "rows", ranks=2, validation_days=100))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def test_a_dead_rank_of_horovodrun_ends_the_run_which_then_goes_on(
    skewed: Path, tmp_path: Path, how: signal.Signals
) -> None:
    settings = {"ranks": 2, "epochs": 6, "patience": 6, "checkpoint_steps": 1, "stall_timeout_seconds": 10}
    whole = run_ranks(task_in(tmp_path / "whole", skewed, **settings))
    task = task_in(tmp_path / "work", skewed, **settings)
    task = replace(task, keep=tmp_path / "keep")
    died: list[float] = []
    with lifeline.held(tmp_path / "keep"), caught(psutil.Process(), tmp_path / "keep", how, died):
        with pytest.raises(HalflifeError, match=r"run again: it goes on from epoch \d, step \d") as failure:
            run_ranks(task)
        assert "\n" not in str(failure.value)
        assert time.monotonic() - died[0] < BOUND_SECONDS
    with lifeline.held(tmp_path / "keep"):
        again = run_ranks(task)
    assert same(again[0].metrics, whole[0].metrics)
    assert again[0].weights_sha256 == whole[0].weights_sha256


def same(metrics: dict[str, Any], others: dict[str, Any]) -> bool:
    """Whether two runs ended with the same figures, whatever time they took."""
    return {**metrics, "train_seconds": 0, "version": 0} == {**others, "train_seconds": 0, "version": 0}


@contextlib.contextmanager
def caught(job: psutil.Process, keep: Path, how: signal.Signals, died: list[float]) -> Iterator[None]:
    """Send rank 1 below a process a signal when the run has come to its second epoch."""
    thread = threading.Thread(target=lambda: died.append(strike(lambda: rank_below(job, "1"), keep, how)))
    thread.start()
    yield
    thread.join()


def strike(victim: Callable[[], psutil.Process], keep: Path, how: signal.Signals) -> float:
    """Wait for the second epoch, send the signal, return when."""
    limit = time.monotonic() + 300
    while time.monotonic() < limit:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads((keep / "checkpoint.json").read_text())["position"]["epoch"] >= 2:
                break
        time.sleep(0.02)
    victim().send_signal(how)
    return time.monotonic()


def rank_below(job: psutil.Process, rank: str) -> psutil.Process:
    """The process of a rank: of those that know to be it, the one that no other is the parent of."""
    found = []
    for process in job.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOROVOD_RANK") == rank and "python" in Path(process.exe()).name:
                found.append((process, process.ppid()))
    parents = {parent for _, parent in found}
    return next(process for process, _ in found if process.pid not in parents)


@dataclass(frozen=True)
class Job:
    """A warehouse of its own, in which the history is there and nothing is trained."""

    folder: Path

    @property
    def keep(self) -> Path:
        """The folder of the only training that has begun."""
        (found,) = (path.parent for path in (self.folder / "warehouse/_training").glob("*/driver.json"))
        return found

    def start(self, job: str, as_of: object, *overrides: str) -> subprocess.Popen[str]:
        """Start a job by spark-submit."""
        sets = [word for override in overrides for word in ("--set", override)]
        return subprocess.Popen(
            [ROOT / "scripts/submit", job, "--config", self.folder / "config.yaml", "--as-of", str(as_of), *sets],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env={
                **os.environ,
                "HALFLIFE_LOGS": str(self.folder / "logs"),
                "HALFLIFE_MASTER": "local[2]",
                "HALFLIFE_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            },
        )

    def run(self, job: str, as_of: object, *overrides: str) -> str:
        """Run a job that must succeed; returns what it showed."""
        process = self.start(job, as_of, *overrides)
        shown, _ = process.communicate()
        assert process.returncode == 0, shown
        return shown

    def metrics(self, as_of: object = NIGHT) -> dict[str, Any]:
        """Figures of the published model's night, and the digest of its weights."""
        night = self.folder / f"warehouse/_nights/train/as_of={as_of}"
        metrics: dict[str, Any] = json.loads((night / "manifest.json").read_text())["metrics"]
        weights = json.loads((night / "models/manifest.json").read_text())["sha256"]["weights.npz"]
        return {**metrics, "weights": weights}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A warehouse with two sessionized nights."""
    folder = tmp_path_factory.mktemp("history")
    (folder / "raw").mkdir()
    generated.write(folder / "raw")
    (folder / "config.yaml").write_text(generated.CONFIG.format(raw=folder / "raw"))
    job = Job(folder)
    job.run("sessionize", NIGHT)
    job.run("sessionize", NIGHT + timedelta(days=1))
    return job


def copy_of(history: Job, folder: Path) -> Job:
    shutil.copytree(history.folder / "warehouse", folder / "warehouse", symlinks=True)
    shutil.copy(history.folder / "config.yaml", folder)
    return Job(folder)


@pytest.fixture(scope="module")
def whole(history: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A training that nothing killed."""
    job = copy_of(history, tmp_path_factory.mktemp("whole"))
    job.run("train", NIGHT, *SETTINGS)
    return job


def test_what_a_published_run_kept_is_gone_but_its_curves(whole: Job) -> None:
    (left,) = (whole.folder / "warehouse/_training").iterdir()
    assert left.name == "tensorboard"
    assert list(left.glob("*/events.out.tfevents.*"))


def driver_of(job: psutil.Process, name: str) -> psutil.Process:
    """The JVM of spark-submit, or the Python driver that it started."""
    for process in [job, *job.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # short-lived ones end meanwhile
            line = process.cmdline()
            if name == "jvm" and "org.apache.spark.deploy.SparkSubmit" in line:
                return process
            if name == "python" and any(word.endswith("jobs/train.py") for word in line) and "python" in line[0]:
                return process
    raise AssertionError(f"no {name} below {job}")


@pytest.mark.parametrize(
    ("victim", "how"),
    [
        ("rank", signal.SIGKILL),
        ("rank", signal.SIGSTOP),  # silent, with its connections open, as a node without power
        ("submit", signal.SIGKILL),
        ("jvm", signal.SIGKILL),
        ("python", signal.SIGKILL),
    ],
    ids=["rank killed", "rank silent", "submit", "jvm", "python"],
)
def test_a_killed_job_ends_in_time_and_goes_on(
    whole: Job, history: Job, tmp_path: Path, victim: str, how: signal.Signals
) -> None:
    job = copy_of(history, tmp_path)
    stall = [f"train.stall_timeout_seconds={STALL_SECONDS}"] if how == signal.SIGSTOP else []
    process = job.start("train", NIGHT, *SETTINGS, *stall)
    submit = psutil.Process(process.pid)
    while not list((tmp_path / "warehouse/_training").glob("*/driver.json")):
        assert process.poll() is None
        time.sleep(0.1)
    below: list[psutil.Process] = []

    def target() -> psutil.Process:
        below.extend(submit.children(recursive=True))
        if victim == "submit":
            return submit
        return rank_below(submit, "1") if victim == "rank" else driver_of(submit, victim)

    died = strike(target, job.keep, how)
    shown, _ = process.communicate(timeout=BOUND_SECONDS)
    _, alive = psutil.wait_procs(below, timeout=max(1.0, died + BOUND_SECONDS - time.monotonic()))
    assert not alive, [one.cmdline() for one in alive]
    assert process.returncode != 0
    if victim == "rank":
        assert process.returncode == 1
        silent = f"has been silent for {STALL_SECONDS} s"
        assert f"training ended: rank 1 {'died without a word' if how == signal.SIGKILL else silent}" in shown
        assert "run again: it goes on from epoch" in shown
    assert not (tmp_path / "warehouse/_nights/train").exists()
    job.run("train", NIGHT, *SETTINGS)
    log = max((tmp_path / "logs").glob("train-*.log"), key=lambda path: path.stat().st_mtime).read_text()
    assert "goes on from a checkpoint: epoch" in log
    assert same(job.metrics(), whole.metrics())


def test_the_gate_puts_the_law_in_place_of_a_first_model_that_loses_and_then_leaves_it(
    history: Job, tmp_path: Path
) -> None:
    job = copy_of(history, tmp_path)
    # A model that starts at a half-life of 200 days and learns nothing; the log's own is 4 days.
    lazy = ("train.learning_rate=1e-9", "train.epochs=1", "train.catch_up_epochs=0", "model.half_life_days=200")
    lazy = (*lazy, "train.gate=enforce")
    shown = job.run("train", NIGHT, *lazy)
    assert "the new model does not beat the half-life of" in shown
    assert "publishes the law with" in shown
    first = job.metrics()
    assert first["kind"] == "exponential"
    assert first["live"] == "law"
    after = NIGHT + timedelta(days=1)
    shown = job.run("train", after, *lazy)
    assert "nothing was published, the model that is there stays" in shown
    assert not (tmp_path / f"warehouse/_nights/train/as_of={after}").exists()
    assert "refused already from the same inputs" in job.run("train", after, *lazy)
    job.run("score", after)
    manifest = json.loads((tmp_path / f"warehouse/_nights/score/as_of={after}/manifest.json").read_text())
    assert manifest["metrics"]["model"] == first["version"]
