"""The jobs on a real cluster, from the packed environment, with nodes that die: the tables are those of local mode."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

import generated_log as generated
from halflife import crash
from halflife.command import SECRET
from halflife.submission import ENVIRONMENT, HOME
from halflife.upkeep import verify
from halflife.warehouse import Warehouse, digests
from standalone_cluster import Standalone, standalone, until

NIGHT = generated.FIRST_DAY + timedelta(days=50)
# Small steps, and enough of them to be caught in between.
CONFIG = """\
extends: log.yaml
train:
  epochs: 4
  patience: 4
  checkpoint_steps: 1
  gate: off
  ranks: 2
  network_interface: lo
  restarts: 1
  tensorboard: null
cluster:
  master: {master}
  driver_host: 127.0.0.1
  driver_memory: 1g
  packages: {packages}
  python: {python}
  executors: {{cores: 1, memory: 1g, python_memory: 1g, at_least: 2, at_most: 2}}
  train: {{cores_per_rank: 1, memory: 1g, python_memory: 1g}}
  conf: {{spark.sql.shuffle.partitions: 8}}
"""


@dataclass(frozen=True)
class Jobs:
    """Jobs over one log, each warehouse by its name; the folder is the one that all nodes see."""

    folder: Path
    cluster: Standalone

    def start(self, job: str, env: str, warehouse: str, *sets: str) -> subprocess.Popen[str]:
        """Start a job for the night."""
        command: list[str | Path] = [
            HOME / "scripts/submit",
            job,
            "--env",
            env,
            "--config",
            self.folder / "config.yaml",
        ]
        command += ["--as-of", NIGHT.isoformat(), "--set", f"warehouse={self.folder / warehouse}"]
        command += [word for override in sets for word in ("--set", override)]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "HALFLIFE_LOGS": str(self.folder / "logs"),
                "HALFLIFE_MASTER": "local[2]",
                "HALFLIFE_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
                SECRET: self.cluster.secret,
                crash.POINTS: str(self.points(job, warehouse)),
            },
        )

    def points(self, job: str, warehouse: str) -> Path:
        """The file in which a job's driver says how far it is."""
        return self.folder / f"{warehouse}-{job}-points"

    def made(self, job: str, warehouse: str) -> dict[str, Any] | None:
        """What identifies the tables that a job has published."""
        return digests(Warehouse(self.folder / warehouse).manifest(job, NIGHT))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """A cluster with two nodes, and the same jobs done in local mode."""
    subprocess.run([HOME / "scripts/package"], check=True)
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "raw").mkdir()
    generated.write(folder / "raw")
    (folder / "log.yaml").write_text(generated.CONFIG.format(raw=folder / "raw"))
    with standalone(folder, workers=2) as cluster:
        unpacked = folder / "shared/environment"
        unpacked.mkdir(parents=True)
        shutil.unpack_archive(HOME / "dist" / ENVIRONMENT, unpacked, filter="tar")
        python = unpacked / "bin/python"
        (folder / "config.yaml").write_text(CONFIG.format(master=cluster.master, packages=HOME / "dist", python=python))
        made = Jobs(folder, cluster)
        for job in ("sessionize", "train", "score"):
            process = made.start(job, "local", "local")
            shown, _ = process.communicate()
            assert process.returncode == 0, shown
        yield made
    shutil.rmtree(folder / "shared")


def reached(jobs: Jobs, job: str, point: str) -> Callable[[], bool]:
    """Whether a job on the cluster has come to a point."""
    file = jobs.points(job, "cluster")
    return lambda: file.exists() and point in file.read_text().splitlines()


def second_epoch(jobs: Jobs) -> bool:
    """Whether the ranks on the cluster have a checkpoint of their second epoch."""
    for file in (jobs.folder / "cluster/_training").glob("*/checkpoint.json"):
        try:
            return bool(json.loads(file.read_text())["position"]["epoch"] >= 2)
        except (OSError, ValueError, KeyError):
            continue  # it is being replaced
    return False


@pytest.mark.parametrize("job", ["sessionize", "train", "score"])
def test_a_job_on_a_cluster_makes_the_tables_of_local_mode_though_a_node_dies(jobs: Jobs, job: str) -> None:
    half_way = {
        "sessionize": reached(jobs, job, "walk: begins"),
        "train": lambda: second_epoch(jobs),
        "score": reached(jobs, job, "score: begins"),
    }
    begin = time.monotonic()
    # Executors fetch and unpack the archive for one job; for the others it lies unpacked where all nodes see it.
    fetched = ("cluster.python=null",) if job == "sessionize" else ()
    process = jobs.start(job, "cluster", "cluster", *fetched)
    until(lambda: half_way[job]() or process.poll() is not None, job, seconds=900)
    if process.poll() is None:
        print(f"{job}: half way after {time.monotonic() - begin:.0f} s")
        died = [program for program in jobs.cluster.kill_worker() if program.name.startswith("python")]
        assert all(program.is_relative_to(jobs.folder) for program in died), "not the packed Python"
        assert died or job != "train"
    shown, _ = process.communicate(timeout=900)
    print(f"{job}: {time.monotonic() - begin:.0f} s: {shown}")
    assert process.returncode == 0, shown
    assert jobs.made(job, "cluster") == jobs.made(job, "local")


def test_a_task_that_hangs_is_run_twice_by_speculation_and_leaves_nothing(jobs: Jobs) -> None:
    store, slow, events = Warehouse(jobs.folder / "speculation"), jobs.folder / "slow", jobs.folder / "events"
    shutil.copytree(jobs.folder / "local", store.root, symlinks=True)
    store.night_link("score", NIGHT).unlink()
    for folder in (slow, events):
        folder.mkdir()
    settings = {
        **yaml.safe_load((jobs.folder / "config.yaml").read_text())["cluster"]["conf"],
        "spark.speculation": "true",
        "spark.speculation.interval": "100ms",
        "spark.speculation.multiplier": "1.1",
        "spark.speculation.quantile": "0.5",
        f"spark.executorEnv.{crash.SLOW}": str(slow),
        "spark.eventLog.enabled": "true",
        "spark.eventLog.compress": "false",
        "spark.eventLog.dir": str(events),
    }
    begin = time.monotonic()
    process = jobs.start("score", "cluster", store.root.name, f"cluster.conf={json.dumps(settings)}")
    shown, _ = process.communicate(timeout=900)
    print(f"score, speculation: {time.monotonic() - begin:.0f} s: {shown}")
    assert process.returncode == 0, shown
    assert (slow / "scores").exists()
    lines = [line for file in events.rglob("events_*") for line in file.read_text().splitlines()]
    ended = [json.loads(line)["Task Info"] for line in lines if '"SparkListenerTaskEnd"' in line]
    assert any(task["Speculative"] and not task["Failed"] and not task["Killed"] for task in ended)
    assert jobs.made("score", store.root.name) == jobs.made("score", "local")
    assert list(verify.damages(store)) == []
    assert list((store.root / "_staging").iterdir()) == []
