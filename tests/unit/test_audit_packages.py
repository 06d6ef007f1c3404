"""Advisories about locked packages: which are borne, and that each says why."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
audit: Any = importlib.import_module("audit")

FOUND = {"id": "GHSA-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}
REPORT = {
    "dependencies": [
        {"name": "fine", "version": "1", "vulns": []},
        {"name": "skipped", "skip_reason": "not found"},
        {"name": "horovod", "version": "0.28.1", "vulns": [FOUND]},
    ]
}


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        ({"CVE-1": {"package": "horovod", "reason": "loopback"}}, True),
        ({"GHSA-1": {"package": "horovod", "reason": "loopback"}}, True),
        ({"CVE-1": {"package": "horovod", "reason": " "}}, False),
        ({"CVE-1": {"package": "other", "reason": "loopback"}}, False),
        ({"CVE-2": {"package": "horovod", "reason": "loopback"}}, False),
    ],
)
def test_an_advisory_is_borne_by_its_name_package_and_reason(entry: dict[str, dict[str, str]], allowed: bool) -> None:
    (found,) = audit.findings(REPORT)
    assert str(found) == "horovod 0.28.1: CVE-1, GHSA-1; fixed in 2"
    assert audit.borne(found, entry) == allowed


def test_each_advisory_that_is_borne_is_of_a_locked_package_and_says_why() -> None:
    locked = "".join(path.read_text() for path in (ROOT / "conf").glob("requirements*.txt"))
    for name, entry in tomllib.loads(audit.ADVISORIES.read_text()).items():
        assert name.startswith(("CVE-", "GHSA-", "PYSEC-"))
        assert f"{entry['package']}==" in locked
        assert len(entry["reason"].split()) > 5
