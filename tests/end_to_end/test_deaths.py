"""What dies or fails beside the driver: Python workers, the disk. Readers find the old night, a rerun the new one."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from halflife import crash
from halflife.status import history
from halflife.upkeep import verify
from halflife.warehouse import Warehouse

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
bench_faults: Any = importlib.import_module("bench_faults")

JOBS = {"sessionize": "walk", "score": "scores"}  # with the point at which one of their workers dies


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A night sessionized and scored: each step known from a whole run."""
    made, chain = bench_faults.prepare(tmp_path_factory.mktemp("deaths") / "chain")
    for job in JOBS:
        made.learn(next(step for step in chain if step.job == job))
    return made


def reference_of(faults: Any, job: str) -> Any:
    return next(reference for reference in faults.references if reference.step.job == job)


def must_be_whole(faults: Any) -> None:
    assert list(verify.damages(Warehouse(faults.warehouse))) == []
    assert list((faults.warehouse / "_staging").glob("*")) == []


@pytest.mark.parametrize("job", JOBS)
def test_a_task_whose_worker_dies_is_run_again_and_nothing_of_the_first_is_left(
    faults: Any, tmp_path: Path, job: str
) -> None:
    reference = reference_of(faults, job)
    faults.restore(reference)
    code = faults.run(reference.step, HALFLIFE_MASTER="local[2,3]", **{crash.WORKERS: str(tmp_path)})
    assert (code, [path.name for path in tmp_path.iterdir()]) == (0, [JOBS[job]])
    assert faults.found(reference.step) == reference.made
    must_be_whole(faults)


@pytest.mark.parametrize("job", JOBS)
def test_a_job_whose_task_fails_for_good_publishes_nothing_and_says_where_to_look(
    faults: Any, tmp_path: Path, job: str
) -> None:
    reference = reference_of(faults, job)
    faults.restore(reference)
    assert faults.run(reference.step, **{crash.WORKERS: str(tmp_path)}) == 1
    assert faults.found(reference.step) == reference.found
    failed = history(faults.warehouse)[0]
    assert (failed.state, failed.exit_code) == ("failed", 1)
    assert "Python worker exited unexpectedly" in (failed.message or "")
    must_be_whole(faults)
    assert faults.run(reference.step) == 0
    assert faults.found(reference.step) == reference.made


@pytest.fixture
def small_disk(faults: Any, tmp_path: Path) -> Iterator[Any]:
    """The same log with a warehouse on a disk of its own, of 128 KiB."""
    made = bench_faults.Faults(tmp_path, faults.log)
    made.warehouse.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(made.warehouse)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a disk of its own can be mounted by root alone")
    yield made
    subprocess.run(["umount", str(made.warehouse)], check=True)


def remount(disk: Any, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk.warehouse)], check=True)


def test_a_full_disk_and_a_read_only_one_are_said_and_change_nothing(faults: Any, small_disk: Any) -> None:
    reference = reference_of(faults, "sessionize")
    step, shown = reference.step, small_disk.folder / "shown"
    assert small_disk.run(step) == 1
    assert "no space is left" in shown.read_text()
    assert small_disk.found(step) == {}
    must_be_whole(small_disk)
    remount(small_disk, "size=64m,ro")
    assert small_disk.run(step) == 2
    assert "cannot be written: Read-only file system" in shown.read_text()
    remount(small_disk, "rw")
    assert small_disk.run(step) == 0
    assert small_disk.found(step) == reference.made
