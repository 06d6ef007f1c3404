"""A job ends with what started it, and with the launcher in between, though neither can say anything any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from halflife import starter, submit

# A job that TERM does not end, as one that is busy elsewhere.
JOB = """
import os, signal, sys, time
from halflife import starter
signal.signal(signal.SIGTERM, signal.SIG_IGN)
starter.end_with_it()
print("job", os.getpid(), flush=True)
time.sleep(60)
"""
# As Spark's launcher starts a job's Python, and is not ended by its end.
LAUNCHER = f"""
import os, subprocess, sys
print("launcher", os.getpid(), flush=True)
subprocess.run([sys.executable, "-c", {JOB!r}], env={{**os.environ, {starter.GATEWAY!r}: "1"}})
"""
DIRECTLY = f"""
import os, subprocess, sys
print("starter", os.getpid(), flush=True)
subprocess.run([sys.executable, "-c", {JOB!r}], env={{**os.environ, {starter.STARTER!r}: str(os.getpid())}})
"""
SUBMITTED = f"""
import os, sys
from halflife import submission, submit
class Launched(submission.Submission):
    def command(self, home):
        return [sys.executable, "-c", {LAUNCHER!r}]
print("starter", os.getpid(), flush=True)
sys.exit(submit._run(Launched("score", [], "local[1]", {{log}})))
"""


def running(code: str) -> tuple[subprocess.Popen[str], dict[str, psutil.Process]]:
    """A process and those below it by the names that they say, as soon as the job has begun."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found: dict[str, psutil.Process] = {}
    while "job" not in found:
        name, number = process.stdout.readline().split()
        found[name] = psutil.Process(int(number))
    return process, found


def submitted(folder: Path) -> str:
    return SUBMITTED.replace("{log}", f"submission.Path({str(folder / 'job.log')!r})")


@pytest.mark.parametrize(
    ("victim", "how"),
    [("starter", signal.SIGKILL), ("starter", signal.SIGTERM), ("launcher", signal.SIGKILL)],
    ids=["submit killed", "submit ended", "launcher killed"],
)
def test_a_job_ends_with_scripts_submit_and_with_the_launcher(tmp_path: Path, victim: str, how: signal.Signals) -> None:
    process, found = running(submitted(tmp_path))
    with process:
        found[victim].send_signal(how)
        found["job"].wait(10)
        assert process.wait(10) == (-how if victim == "starter" and how is signal.SIGKILL else 128 + how)


def test_a_command_ends_with_the_process_that_it_is_told_of() -> None:
    process, found = running(DIRECTLY)
    with process:
        process.kill()
        found["job"].wait(10)


def test_a_job_whose_starter_was_gone_before_it_began_ends_at_once() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    environment = {**os.environ, starter.STARTER: str(gone.pid)}
    assert subprocess.run([sys.executable, "-c", JOB], env=environment).returncode == -signal.SIGKILL


def test_who_names_no_starter_goes_on_without_it() -> None:
    """Whoever starts one from a terminal, and closes that."""
    code = JOB.replace("time.sleep(60)", "time.sleep(1); print('done')")
    environment = {name: value for name, value in os.environ.items() if name not in (starter.STARTER, starter.GATEWAY)}
    shell = ["sh", "-c", '"$0" -c "$1" & sleep 0.5', sys.executable, code]
    assert "done" in subprocess.run(shell, env=environment, capture_output=True, text=True).stdout


def test_the_variable_is_the_one_that_the_tasks_of_airflow_set() -> None:
    assert f'STARTER = "{starter.STARTER}"' in (submit.HOME / "jobs/dags/halflife_tasks.py").read_text()
