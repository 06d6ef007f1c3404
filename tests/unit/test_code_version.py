from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import halflife
from halflife.warehouse import TABLES
from halflife.warehouse.code import code_version, sources

LIBRARY = Path(halflife.__file__).parent


@pytest.mark.parametrize(
    ("job", "file"),
    [
        ("sessionize", "transformations/window.py"),
        ("train", "training/loop.py"),
        ("train", "train.py"),  # started by the launcher as a process of its own
        ("train", "training/horovodrun.py"),
        ("score", "scoring/encode.py"),
        ("score", "pipelines/score.py"),
        ("score", "decay.py"),
        ("evaluate", "evaluation/ranking.py"),
        ("report", "report/__init__.py"),
    ],
)
def test_the_code_of_a_job_is_what_it_runs(job: str, file: str) -> None:
    assert LIBRARY / file in sources(job)


def test_a_change_of_the_report_makes_no_other_night_anew() -> None:
    report = {file for file in sources("report") if file.parent.name == "report"}
    assert report
    for job in TABLES.keys() - {"report"}:
        assert not report & set(sources(job)), job


def test_each_job_has_a_version_of_its_own() -> None:
    assert len({code_version(job) for job in TABLES}) == len(TABLES)


def test_what_answers_and_scores_are_made_of_does_not_make_sessions_anew() -> None:
    folders = {file.relative_to(LIBRARY).parts[0] for file in sources("sessionize")}
    assert folders.isdisjoint({"answers", "scoring", "training", "evaluation", "report"})


def test_every_module_that_a_job_loads_is_its_code() -> None:
    """Whatever an import statement looks like: what Python has loaded is the truth."""
    script = "import sys, halflife.pipelines.score; print(*(m for m in sys.modules if m.startswith('halflife.')))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    files = {importlib.import_module(name).__file__ for name in loaded}
    assert files <= {str(file) for file in sources("score")} | {str(LIBRARY / "pipelines" / "__init__.py")}
