"""How a job ends: exit code, one line, and where the trace is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from datetime import date
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from halflife import command, config
from halflife.errors import AuditError
from halflife.sources import failures
from halflife.status import StatusFile, history

LOCAL = Path(__file__).parents[2] / "conf" / "local.yaml"
NIGHT = date(2026, 1, 1)
# A job whose pipeline fails, in a process of its own: the command line takes over the standard streams.
SCRIPT = """
import sys, types
from halflife import command, errors
failing = types.ModuleType("halflife.pipelines.failing")
def run(job):
    raise {error}
failing.run = run
sys.modules["halflife.pipelines.failing"] = failing
sys.exit(command.main("failing", None, ["--config", sys.argv[1], "--as-of", "2026-01-01", *sys.argv[2:]]))
"""


@pytest.mark.parametrize("with_log", [True, False], ids=["log file", "no log file"])
@pytest.mark.parametrize(
    ("error", "code", "traced"),
    [
        ("errors.AuditError('the sums are off')", 4, False),
        ("errors.PublishConflictError('the sums are off')", 5, False),
        ("RuntimeError('[FAILED_READ_FILE.NO_HINT] Reading file file:///a.gz. the sums are off')", 3, False),
        ("ZeroDivisionError('the sums are off')", 1, True),
    ],
)
def test_a_failure_is_one_line_and_an_unexpected_one_leaves_its_trace(
    tmp_path: Path, error: str, code: int, traced: bool, with_log: bool
) -> None:
    log = tmp_path / "job.log"
    environment = {name: value for name, value in os.environ.items() if name != "HALFLIFE_LOG"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(error=error), LOCAL, "--set", f"warehouse={tmp_path}/warehouse"],
        env={**environment, "HALFLIFE_LOG": str(log)} if with_log else environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    (line,) = done.stdout.splitlines()
    assert "the sums are off" in line
    assert ("Traceback" in done.stderr) == (traced and not with_log)
    assert not with_log or "Traceback" in log.read_text()
    (ended,) = history(tmp_path / "warehouse")
    assert (ended.state, ended.exit_code, f"failing: {ended.message}") == ("failed", code, line)


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_says_once_how_it_ended_when_nothing_is_left_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    told: list[str] = []
    write = StatusFile._write

    def written(file: StatusFile) -> None:
        told.append(file.status.state)
        write(file)

    def pipeline(job: command.Job) -> None:
        job.unchanged("nothing to do")
        if fails:  # as what follows a publishing may
            raise AuditError("the sums are off")

    monkeypatch.setattr(StatusFile, "_write", written)
    settings = config.load(LOCAL, [f"warehouse={tmp_path}/warehouse"])
    with contextlib.suppress(AuditError):
        command.run(pipeline, command.Job("score", NIGHT, settings, StringIO(), until=NIGHT))
    assert told == ["running", "failed" if fails else "unchanged"]


def test_a_full_disk_is_an_error_that_says_so_wherever_it_was_met() -> None:
    for error in (OSError(28, "No space left on device"), RuntimeError("java.io.IOException: No space left on device")):
        known = failures.explain(error)
        assert known is not None
        assert known.exit_code == 1
        assert "no space is left" in str(known)


def test_of_a_failure_in_the_jvm_the_innermost_cause_that_says_something_is_shown() -> None:
    def thrown(message: str | None, cause: object = None) -> SimpleNamespace:
        return SimpleNamespace(getMessage=lambda: message, getCause=lambda: cause)

    error = RuntimeError("of Python")
    error.java_exception = thrown("Job aborted", thrown("Python worker exited", thrown(None)))  # type: ignore[attr-defined]
    assert command._root_message(error) == "Python worker exited"
    error.java_exception = thrown(None)  # type: ignore[attr-defined]
    assert command._root_message(error) == "of Python"
