"""Jobs killed in the middle: readers find the old night or the new one, and a rerun ends as if nothing had been."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
bench_faults: Any = importlib.import_module("bench_faults")

# Of the points that the jobs list: those between whose neighbours what readers find, or what is left, changes.
SESSIONIZE = ["walk: begins", "publish: described", "publish: moved", "publish: tables linked", "publish: switched"]
SCORE = ["memory: is done", "publish: durable", "publish: moved", "publish: link of score made", "publish: is done"]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two nights sessionized and the first of them scored, then the second one: each step known from a whole run."""
    made, chain = bench_faults.prepare(tmp_path_factory.mktemp("faults") / "chain")
    for step in chain:
        if step.job in ("sessionize", "score") and len(made.references) < 4:
            made.learn(step)
    return made


def violations(faults: Any, reference: Any, kill: Any) -> list[str]:
    """What goes wrong when a step is killed and run again."""
    found: list[str] = faults.kill(reference, kill)
    return found


@pytest.mark.parametrize(
    ("place", "name"),
    [*((2, name) for name in SESSIONIZE), *((3, name) for name in SCORE)],
    ids=lambda value: str(value),
)
def test_a_job_that_is_killed_leaves_a_whole_night_and_its_rerun_ends_as_if_it_had_not_been(
    faults: Any, place: int, name: str
) -> None:
    reference = faults.references[place]
    assert violations(faults, reference, bench_faults.Kill(reference.points.index(name) + 1, name)) == []


@pytest.mark.parametrize("share", [0.6, 0.8])
def test_a_job_may_be_killed_at_any_time(faults: Any, share: float) -> None:
    reference = faults.references[3]
    assert violations(faults, reference, bench_faults.Kill(None, "any time", share * reference.seconds)) == []


def test_the_crash_points_of_the_tests_are_all_there(faults: Any) -> None:
    assert set(SESSIONIZE) <= set(faults.references[2].points)
    assert set(SCORE) <= set(faults.references[3].points)
