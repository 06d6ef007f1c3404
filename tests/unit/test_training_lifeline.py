"""One run at a time in a folder, and no rank that outlives its driver, on whatever machine."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from halflife.errors import ConfigError, PublishConflictError
from halflife.training import lifeline
from telling_process import running

BEGIN = """
import pathlib, socket, sys, time
from halflife.training import lifeline
lifeline.LOOK_EVERY_SECONDS, lifeline.BEAT_EVERY_SECONDS, lifeline.LOST_SECONDS = 0.1, 0.2, 4.0
folder = pathlib.Path(sys.argv[1])
"""
DRIVER = BEGIN + "with lifeline.held(folder): print('on', flush=True); input()"
RANK = BEGIN + "lifeline.end_without_driver(folder); print('on', flush=True); time.sleep(60)"
RANK_ELSEWHERE = RANK.replace("lifeline.end", "socket.gethostname = lambda: 'another host'; lifeline.end")


def test_a_second_run_is_refused_while_the_first_lives_and_welcome_when_it_was_killed(tmp_path: Path) -> None:
    with (
        running(DRIVER, tmp_path) as first,
        pytest.raises(PublishConflictError, match=f'"pid": {first.pid}'),
        lifeline.held(tmp_path),
    ):
        pass
    with lifeline.held(tmp_path):
        pass


@pytest.mark.parametrize("rank", [RANK, RANK_ELSEWHERE], ids=["here", "elsewhere"])
def test_a_rank_ends_when_its_driver_is_killed_and_not_before(tmp_path: Path, rank: str) -> None:
    with running(DRIVER, tmp_path) as driver, running(rank, tmp_path) as orphan:
        with pytest.raises(subprocess.TimeoutExpired):
            orphan.wait(1.6)
        driver.kill()
        assert orphan.wait(10) == lifeline.ORPHANED


@pytest.mark.parametrize("rank", [RANK, RANK_ELSEWHERE], ids=["here", "elsewhere"])
def test_a_rank_whose_place_another_run_has_taken_ends(tmp_path: Path, rank: str) -> None:
    """The rank is stopped meanwhile: it never finds the folder without a driver."""
    with running(DRIVER, tmp_path) as driver, running(rank, tmp_path) as orphan:
        time.sleep(0.5)  # it has seen its driver's pulse
        orphan.send_signal(signal.SIGSTOP)
        driver.kill()
        driver.wait()
        with running(DRIVER, tmp_path):
            orphan.send_signal(signal.SIGCONT)
            assert orphan.wait(3) == lifeline.ORPHANED


def test_a_file_system_without_locks_is_not_taken_for_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(ConfigError, match=r"grants no lock \(No locks available\)"), lifeline.held(tmp_path):
        pass
