from __future__ import annotations

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
