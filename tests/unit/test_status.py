"""What is known of a run from outside: while it goes on, when it has ended, and when it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from halflife.errors import ConfigError
from halflife.status import StatusFile, history
from halflife.warehouse import lease

NIGHT = date(2026, 1, 2)
# A run in a process of its own, that goes on until it is killed.
RUN = """
import sys, time
from datetime import date
from pathlib import Path
from halflife.status import StatusFile
file = StatusFile(Path(sys.argv[1]), "score", date(2026, 1, 2))
file.stage("encode", {})
print("begun", flush=True)
time.sleep(60)
"""


def test_a_run_is_running_until_it_says_how_it_ended(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, "score", NIGHT, "score.log")
    file.stage("encode", {})
    (status,) = history(tmp_path)
    assert (status.job, status.as_of, status.state, status.stage) == ("score", "2026-01-02", "running", "encode")
    file.end("published", 0, "published scores", "run-7", {"encode": 1.5})
    (status,) = history(tmp_path)
    assert (status.state, status.exit_code, status.run_id) == ("published", 0, "run-7")
    assert (status.stage, status.seconds) == (None, {"encode": 1.5})
    assert [path.suffix for path in file.path.parent.iterdir()] == [".json"]


def test_a_run_that_ended_without_a_word_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", RUN, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert history(tmp_path)[0].state == "running"
        process.send_signal(signal.SIGKILL)
    assert history(tmp_path)[0].state == "killed"


def test_the_newest_run_comes_first(tmp_path: Path) -> None:
    for job in ("sessionize", "score"):
        StatusFile(tmp_path, job, NIGHT).end("published", 0, "")
        time.sleep(1)
    assert [status.job for status in history(tmp_path)] == ["score", "sessionize"]


def test_a_file_that_is_half_written_or_of_other_code_does_not_hide_the_rest(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, "score", NIGHT)
    file.end("published", 0, "")
    file.path.with_name("0-half.json").write_text('{"job": "sco')
    file.path.with_suffix(".fresh").touch()
    later = json.loads(file.path.read_text()) | {"a_field_of_tomorrow": 1}
    file.path.with_name("1-later.json").write_text(json.dumps(later))
    assert [status.state for status in history(tmp_path)] == ["published", "published"]


def test_where_nothing_can_be_written_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "warehouse").write_text("a file")
    with pytest.raises(ConfigError, match=r"warehouse: .*/warehouse: cannot be written"):
        StatusFile(tmp_path / "warehouse", "score", NIGHT)


def test_a_disk_that_fills_up_does_not_end_a_run_by_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StatusFile(tmp_path, "score", NIGHT)
    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        file.stage("encode", {})
    file.end("published", 0, "")
    assert history(tmp_path)[0].state == "published"


def test_a_lease_is_one_process_s_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    held = lease.Lease(folder)
    assert lease.is_held(folder)
    with lease.taken_over(folder) as ours:
        assert not ours
    held.end()
    assert not lease.is_held(folder)
    with lease.taken_over(folder) as ours:
        assert ours
        assert lease.is_held(folder)
    assert not any(tmp_path.iterdir())


def test_a_lease_whose_file_was_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the file and locking it, its last holder may remove it: the lock would guard nothing."""
    holders, opened = [lease.Lease(tmp_path / "run")], os.open

    def slow(path: Path, flags: int, mode: int) -> int:
        file = opened(path, flags, mode)
        if holders:
            holders.pop().end()
        return file

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", slow)
        ours = lease.Lease(tmp_path / "run")
    assert lease.is_held(tmp_path / "run")
    ours.end()
