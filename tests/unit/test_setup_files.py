"""The files that make the environment: locks, settings, the set-up script's own promises, and the doctor's verdicts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from halflife import doctor

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
LOCKS = sorted(CONF.glob("requirements*.txt"))
SCRIPTS = [ROOT / "scripts" / "setup", ROOT / "scripts" / "test", ROOT / ".ci" / "run"]

# DESIGN's table: the versions that were shown to work together.
PINNED = {
    "pyspark": "4.0.5",
    "pyarrow": "14.0.2",
    "numpy": "1.26.4",
    "pandas": "2.2.3",
    "tensorflow-cpu": "2.18.1",
    "keras": "3.15.1",
    "petastorm": "0.13.1",
}


def locked(lock: Path) -> dict[str, str]:
    """Names and versions in a lock file."""
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==(\S+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_version_has_a_hash_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    requirements = re.split(r"\n(?=[a-z0-9])", re.sub(r"(?m)^#.*\n", "", text))
    assert locked(lock)
    assert [each.split("\n")[0] for each in requirements if "--hash=sha256:" not in each] == []
    assert not re.search(r"https?:|--(extra-)?index-url|--find-links|@ file", text)


def test_every_lock_is_made_from_a_list_of_the_same_name() -> None:
    assert {lock.with_suffix(".in") for lock in LOCKS} | {CONF / "requirements-common.in"} == set(
        CONF.glob("requirements*.in")
    )


def test_the_lock_holds_the_versions_that_work_together() -> None:
    versions = locked(CONF / "requirements.txt")
    assert {name: versions[name] for name in PINNED} == PINNED
    assert locked(CONF / "requirements-horovod.txt") == {"horovod": "0.28.1"}


@pytest.mark.parametrize("other", ["requirements-gpu.txt", "requirements-dev.txt", "requirements-lake.txt"])
def test_locks_agree_where_they_overlap(other: str) -> None:
    versions, others = locked(CONF / "requirements.txt"), locked(CONF / other)
    both = versions.keys() & others.keys()
    assert both
    assert {name: others[name] for name in both} == {name: versions[name] for name in both}


def test_the_gpu_lock_differs_by_tensorflow_and_its_cuda_libraries_only() -> None:
    added = locked(CONF / "requirements-gpu.txt").keys() - locked(CONF / "requirements.txt").keys()
    assert {name for name in added if not name.startswith("nvidia-")} == {"tensorflow"}


def test_this_environment_is_the_locked_one() -> None:
    installed = {distribution.name.lower().replace("_", "-") for distribution in metadata.distributions()}
    build = "requirements.txt" if "tensorflow-cpu" in installed else "requirements-gpu.txt"
    versions = {
        k: v
        for name in (build, "requirements-dev.txt", "requirements-horovod.txt")
        for k, v in locked(CONF / name).items()
    }
    assert {name: metadata.version(name) for name in versions} == versions


def test_the_demo_log_is_no_dependency() -> None:
    assert all("completejourney" not in lock.read_text() for lock in LOCKS if lock.name != "requirements-demo.txt")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_parse_and_are_strict(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "\nset -euo pipefail\n" in script.read_text()
    assert os.access(script, os.X_OK)


def test_setup_refuses_an_unknown_option_before_doing_anything() -> None:
    answer = subprocess.run([SCRIPTS[0], "--gpus"], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "--gpus" in answer.stderr


def test_setup_says_what_to_install_where_there_is_no_python(tmp_path: Path) -> None:
    copy = tmp_path / "clone"
    copy.mkdir()
    for name in ("conf", "scripts", "pyproject.toml"):
        (copy / name).symlink_to(ROOT / name)
    tools = tmp_path / "bin"
    tools.mkdir()
    # A machine with the usual commands, an unprivileged user, and no Python.
    for name in ["bash", "cat", "cut", "dirname", "flock", "mkdir", "sed", "sha256sum", "tail", "uname"]:
        (tools / name).symlink_to(subprocess.check_output(["bash", "-c", f"command -v {name}"], text=True).strip())
    (tools / "id").write_text("#!/bin/sh\necho 1000\n")
    (tools / "id").chmod(0o755)
    script = copy / "setup"
    script.write_text(
        SCRIPTS[0]
        .read_text()
        .replace("/usr/bin/python3.11 /usr/local/bin/python3.11", "")
        .replace('$(dirname "${BASH_SOURCE[0]}")/..', str(copy))
    )
    answer = subprocess.run(
        ["bash", str(script)],
        env={"PATH": str(tools), "HOME": str(tmp_path), "HALFLIFE_LOGS": str(tmp_path / "logs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert "Python 3.11 with venv is missing" in answer.stderr
    assert "apt-get install python3.11 python3.11-venv" in answer.stderr
    assert not (copy / ".venv").exists()


def test_spark_listens_on_the_loopback_only_and_keeps_time_in_utc() -> None:
    lines = (CONF / "spark-defaults.conf").read_text().splitlines()
    settings = dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))
    assert settings["spark.driver.bindAddress"] == settings["spark.driver.host"] == "127.0.0.1"
    assert settings["spark.ui.enabled"] == "false"
    assert settings["spark.sql.session.timeZone"] == "UTC"


def test_each_spark_setting_has_its_reason_above_it() -> None:
    lines = (CONF / "spark-defaults.conf").read_text().splitlines()
    settings = [number for number, line in enumerate(lines) if line.startswith("spark.")]
    # One reason may serve two neighbours (bindAddress and host, the two counts of partitions).
    assert [lines[n] for n in settings if not lines[n - 1].startswith(("#", "spark."))] == []


def test_spark_logs_to_no_console() -> None:
    lines = (CONF / "log4j2.properties").read_text().splitlines()
    assert [line for line in lines if re.match(r"appender\.\w+\.type *=", line)] == ["appender.file.type = File"]
    assert any(line.startswith("property.path = ${sys:halflife.log") for line in lines)


# --- the doctor's verdicts -------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> int:
    monkeypatch.setenv("HALFLIFE_LOGS", str(tmp_path))
    return doctor.main(arguments)


def test_a_working_part_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, "--part", "python") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert re.match(r"ok +python +3\.11\.\d+", line)


def test_a_failing_part_says_why_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The part's process finds no package: what a half-made environment looks like.
    broken = tmp_path / "pyarrow"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('libarrow.so: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run(monkeypatch, tmp_path, "--part", "arrow") == 1
    out = capsys.readouterr().out
    assert re.search(r"^FAIL +arrow", out, re.MULTILINE)
    assert "libarrow.so: cannot open" in out
    assert "what to do: run scripts/setup" in out
    assert "doctor.log" in out


def test_a_part_that_hangs_or_crashes_fails_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "doctor.log"
    part = doctor.Part("python", doctor.check_python, "nothing", limit_seconds=1)
    real = sys.executable
    fake = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(fake))
    for body, detail in (
        ("sleep 60", "no answer within 1 s"),
        ("kill -SEGV $$", "ended by SIGSEGV"),
        ("exit 3", "exit code 3"),
    ):
        fake.write_text(f"#!/bin/bash\n{body}\n")
        fake.chmod(0o755)
        outcome = doctor.run_apart(part, log)
        assert not outcome.ok
        assert detail in outcome.detail
        assert outcome.seconds < 10
    assert sys.executable != real
