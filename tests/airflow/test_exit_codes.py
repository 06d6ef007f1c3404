"""What each exit code of a job makes of its task, and of what comes after."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from nightly import ROOT, load, run, write_settings

SUCCESS, FAILED, SKIPPED, HELD_UP = "success", "failed", "skipped", "upstream_failed"
NIGHTS = iter(date(2026, 1, 1) + timedelta(days=n) for n in range(300))  # no test sees another's runs

# A job that has come to its pipeline, and says which process it is; it runs where the task does, in the installation.
JOB = (
    "import os, signal, time; from halflife import starter; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "starter.end_with_it(); open('telling', 'w').write(str(os.getpid())); os.rename('telling', 'driver'); "
    "time.sleep(300)"
)
DRIVER = f'{ROOT}/.venv/bin/python -c "{JOB}"'

NO_SETTINGS: Mapping[str, object] = {}
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """An installation whose commands only end: `install(score=4)` ends score with exit code 4, each time or in turn."""

    def make(settings: Mapping[str, object] = NO_SETTINGS, **codes: int | list[int]) -> Path:
        binaries = tmp_path / ".venv/bin"
        binaries.mkdir(parents=True, exist_ok=True)
        for job, turns in codes.items():
            lines = "".join(f"{code}\n" for code in ([turns] * 9 if isinstance(turns, int) else turns))
            (tmp_path / f"{job}.codes").write_text(lines)
        # Takes the first line off the job's list: its exit code this time.
        script = (
            "#!/bin/bash\nfor word; do case $word in */jobs/*.py) job=$(basename $word .py);; esac; done\n"
            'job=${job:-$1}; echo "$@" >>calls; code=$(head -n1 $job.codes 2>/dev/null || echo 0)\n'
            'sed -i 1d $job.codes 2>/dev/null; echo "$job: as it happens"; exit ${code:-0}\n'
        )
        for name in ("spark-submit", "halflife"):
            (binaries / name).write_text(script)
            (binaries / name).chmod(0o755)
        path = write_settings(tmp_path / "airflow.yaml", **{"home": str(tmp_path), "wait_hours": 1e6, **settings})
        monkeypatch.setenv("HALFLIFE_AIRFLOW", str(path))
        return tmp_path

    return make


def test_all_is_well(install: Install) -> None:
    home, night = install(), next(NIGHTS)
    assert set(run(load("halflife_nightly"), night).values()) == {(SUCCESS, 1)}
    calls = (home / "calls").read_text().splitlines()
    assert len(calls) == 6
    assert all(f"--as-of {night}" in call for call in calls)


@pytest.mark.parametrize(
    ("codes", "state", "tries", "after"),
    [
        ([2], FAILED, 1, HELD_UP),  # a wrong config stays wrong
        ([4], FAILED, 1, HELD_UP),  # so does what failed its audit
        ([5], SKIPPED, 1, SUCCESS),  # another run has published the night: there is what the others need
        ([3, 0], SUCCESS, 2, SUCCESS),  # the log was delivered meanwhile
        ([1, 137, 0], SUCCESS, 3, SUCCESS),  # a full disk, a lost machine
        ([1, 1, 1, 1], FAILED, 4, HELD_UP),
    ],
    ids=str,
)
def test_an_exit_code_fails_skips_or_tries_again(
    install: Install, codes: list[int], state: str, tries: int, after: str
) -> None:
    install(sessionize=codes)
    states = run(load("halflife_nightly"), next(NIGHTS))
    assert states["sessionize"] == (state, tries)
    assert {states[task][0] for task in ("score", "verify", "evaluate", "report")} == {after}


def test_damaged_tables_are_no_ones_to_read(install: Install) -> None:
    install(verify=4)
    states = run(load("halflife_nightly"), next(NIGHTS))
    assert [states[task][0] for task in ("score", "verify", "report")] == [SUCCESS, FAILED, HELD_UP]


def test_a_night_whose_log_never_comes_is_left_out(install: Install) -> None:
    install({"wait_hours": 1}, ready=3)
    states = run(load("halflife_nightly"), next(NIGHTS))
    assert {state for state, _ in states.values()} == {SKIPPED}


def test_a_night_waits_for_its_log(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    home = install(ready=[3, 3, 0])
    dag = load("halflife_nightly")
    dag.get_task("wait_for_events").poke_interval = 0.1
    assert {state for state, _ in run(dag, next(NIGHTS)).values()} == {SUCCESS}
    assert (home / "calls").read_text().count("ready sessionize") == 3


def test_a_night_that_failed_holds_up_nobody(install: Install) -> None:
    install(sessionize=[4, 0])
    dag = load("halflife_nightly")
    # A task that waited for the night before would hold the run's place, in which that night is to run once cleared.
    assert dag.max_active_runs == 1
    assert not [task.task_id for task in dag.tasks if task.depends_on_past]
    assert [run(dag, next(NIGHTS))["sessionize"] for _ in range(2)] == [(FAILED, 1), (SUCCESS, 1)]


def test_the_night_behind_one_that_was_left_out_is_made_when_its_logs_are_there(install: Install) -> None:
    install({"wait_hours": 1}, ready=[3, 0])
    dag = load("halflife_nightly")
    assert [run(dag, next(NIGHTS))["score"] for _ in range(2)] == [(SKIPPED, 0), (SUCCESS, 1)]


def test_a_job_that_takes_too_long_is_ended_with_all_that_it_has_started(install: Install) -> None:
    home = install({"retries": 0, "timeout_hours": {"sessionize": 20 / 3600}})
    # As spark-submit, whose JVM starts the driver, does not end it, and is not heard of any more when it is killed.
    (home / ".venv/bin/spark-submit").write_text(f"#!/bin/bash\nPYSPARK_GATEWAY_PORT=1 {DRIVER} & wait\n")
    assert run(load("halflife_nightly"), next(NIGHTS))["sessionize"] == (FAILED, 1)
    assert has_ended(home / "driver")


@pytest.mark.parametrize("job", ["spark-submit", "halflife"])
def test_a_task_that_is_killed_takes_its_job_with_it(install: Install, job: str) -> None:
    home = install()
    (home / f".venv/bin/{job}").write_text(f"#!/bin/bash\n[[ $1 != ready ]] || exit 0\n{DRIVER}\n")
    night = next(NIGHTS)
    code = f"from nightly import load, run; import datetime; run(load('halflife_nightly'), {night!r})"
    found = {**os.environ, "PYTHONPATH": str(ROOT / "jobs/dags")}
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent, env=found) as task:
        until((home / "driver").exists)
        task.kill()
    assert has_ended(home / "driver")


def test_a_look_for_the_log_that_takes_too_long_fails(install: Install) -> None:
    home = install({"retries": 0, "timeout_hours": {"ready": 2 / 3600}})
    (home / ".venv/bin/halflife").write_text("#!/bin/bash\nexec sleep 60\n")
    assert run(load("halflife_nightly"), next(NIGHTS))["wait_for_events"] == (FAILED, 1)


def until(true: Callable[[], bool], seconds: float = 300) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.1)


def has_ended(told: Path) -> bool:
    """Whether the process whose id is in a file has ended within seconds."""
    process = Path(f"/proc/{told.read_text().strip()}/stat")

    def gone() -> bool:
        try:
            return " Z " in process.read_text()  # it is merely waited for
        except (FileNotFoundError, ProcessLookupError):
            return True

    until(gone, seconds=10)
    return True


@pytest.mark.parametrize("logical_date", [None, datetime(2026, 6, 3, 9, tzinfo=UTC)], ids=str)  # a Wednesday
@pytest.mark.parametrize(("named", "night"), [({"as_of": "2025-05-05"}, "2025-05-05"), ({}, "2026-06-03")], ids=str)
def test_a_run_by_hand_makes_the_night_it_names_or_tonight(
    install: Install, logical_date: datetime | None, named: dict[str, str], night: str
) -> None:
    home = install()
    at = datetime(2026, 6, 3, 9, tzinfo=UTC)
    load("halflife_train").test(logical_date=logical_date, run_after=at, run_conf=named)
    (waited, trained) = (home / "calls").read_text().splitlines()
    assert waited == f"ready train --config conf/shop.yaml --as-of {night}"
    assert trained.endswith(f"jobs/train.py --config conf/shop.yaml --as-of {night}")


def test_no_night_waits_for_training() -> None:
    assert not {"train", "models"} & set(load("halflife_nightly").task_dict)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """What was posted to the connection's address."""
    posted: list[dict[str, str]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

    with http.server.HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = {"conn_type": "http", "host": f"http://127.0.0.1:{server.server_port}/hook"}
        monkeypatch.setenv("AIRFLOW_CONN_HALFLIFE_ALERT", json.dumps(connection))
        yield posted
        server.shutdown()


def test_an_evaluation_that_fails_is_told_and_does_not_cost_the_report(
    install: Install, webhook: list[dict[str, str]]
) -> None:
    install(evaluate=4)
    states = run(load("halflife_nightly"), next(NIGHTS))
    assert [states[task][0] for task in ("evaluate", "report")] == [FAILED, SUCCESS]
    (message,) = webhook
    assert "halflife_nightly.evaluate" in message["text"]


@pytest.mark.parametrize(("code", "why"), [(4, "exit code 4: score: as it happens"), (5, "skipped; its log")], ids=str)
def test_what_failed_or_was_skipped_is_told_once(
    install: Install, webhook: list[dict[str, str]], code: int, why: str
) -> None:
    install(score=code)
    run(load("halflife_nightly"), next(NIGHTS))
    (message,) = webhook
    assert "halflife_nightly.score" in message["text"]
    assert why in message["text"]
