"""Python workers that die: a task is run again, and nothing of the first attempt is left."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from halflife import crash
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
    assert faults.made(reference.step) == reference.made
    must_be_whole(faults)
