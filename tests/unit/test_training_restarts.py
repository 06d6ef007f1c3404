"""Ranks that die with their node begin again from the checkpoint; what would fail again does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from halflife.errors import ConfigError, HalflifeError
from halflife.training import launch
from halflife.training.launch import RankLostError
from halflife.training.task import ProgressFile, RankResult, TrainingTask
from training_run import task_in

BEGUN = "loss .3"
DONE = [RankResult(0, {}, "digest")]


@pytest.fixture
def task(tmp_path: Path) -> TrainingTask:
    found = task_in(tmp_path / "work", tmp_path / "rows", restarts=2)
    found.progress_file.parent.mkdir(parents=True, exist_ok=True)
    ProgressFile(found.progress_file).report("epoch 1", 1, 10, BEGUN)
    return found


def failing(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> list[Exception]:
    """Have the next runs fail so, and those behind them not; returns what is left of the errors."""
    left = list(errors)

    def run(_spark: object, _task: TrainingTask) -> list[RankResult]:
        if left:
            raise left.pop(0)
        return DONE

    monkeypatch.setattr(launch, "_run_once", run)
    return left


def test_lost_ranks_begin_again_and_say_so(task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    left = failing(monkeypatch, RankLostError("rank 1 died"), RankLostError("rank 0 died"))
    assert launch.run_ranks(None, task) == DONE  # type: ignore[arg-type]
    assert not left
    said = [json.loads(line)["message"] for line in task.progress_file.read_text().splitlines()]
    assert said == [BEGUN, "rank 1 died", "rank 0 died"]


def test_ranks_that_never_started_do_not_begin_again(task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    task.progress_file.write_text("")
    left = failing(monkeypatch, RankLostError("no such interface"), RankLostError("no such interface"))
    with pytest.raises(RankLostError):
        launch.run_ranks(None, task)  # type: ignore[arg-type]
    assert len(left) == 1


def test_ranks_that_are_lost_again_and_again_end_the_run(task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, *(RankLostError(f"time {time}") for time in (1, 2, 3)))
    with pytest.raises(RankLostError, match="time 3"):
        launch.run_ranks(None, task)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ConfigError("too many ranks"), HalflifeError("not a number")])
def test_what_would_fail_again_is_not_begun_again(
    task: TrainingTask, monkeypatch: pytest.MonkeyPatch, error: HalflifeError
) -> None:
    left = failing(monkeypatch, error, error)
    with pytest.raises(type(error)):
        launch.run_ranks(None, task)  # type: ignore[arg-type]
    assert len(left) == 1
