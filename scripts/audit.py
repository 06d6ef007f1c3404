"""Known vulnerabilities of the locked packages, by pip-audit and the OSV database; run by scripts/test.

Those that conf/advisories.toml names, with its reason, are borne. Exit codes: 0 none but these, or the database cannot
be reached (which is said), 1 others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent.parent
ADVISORIES = HOME / "conf" / "advisories.toml"
TIMEOUT_SECONDS = 10  # of a connection


@dataclass(frozen=True)
class Finding:
    """An advisory about a locked package."""

    package: str
    version: str
    names: frozenset[str]  # its id and the others that it goes by
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fixed = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no release mends it"
        return f"{self.package} {self.version}: {', '.join(sorted(self.names))}; {fixed}"


def findings(report: Mapping[str, Any]) -> Iterator[Finding]:
    """What pip-audit's JSON report says."""
    for package in report["dependencies"]:
        for found in package.get("vulns", ()):
            names = frozenset({found["id"], *found["aliases"]})
            yield Finding(package["name"], package["version"], names, tuple(found["fix_versions"]))


def borne(finding: Finding, allowed: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether the list allows an advisory, for this package and with a reason."""
    entries = [allowed[name] for name in finding.names & allowed.keys()]
    return any(entry["package"] == finding.package and entry["reason"].strip() for entry in entries)


def report_of(lock: Path) -> Mapping[str, Any] | None:
    """pip-audit's report of a locked file; None where its database cannot be reached."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--no-deps", "--disable-pip"]
    options = ["--vulnerability-service", "osv", "--timeout", str(TIMEOUT_SECONDS), "--format", "json"]
    done = subprocess.run(
        [*command, *options, "--progress-spinner", "off"], capture_output=True, text=True, check=False
    )
    try:
        report: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        if "ConnectionError" not in done.stderr and "Timeout" not in done.stderr:
            sys.exit(f"audit: pip-audit failed: {done.stderr[-2000:]}")
        return None
    return report


def main() -> None:
    allowed = tomllib.loads(ADVISORIES.read_text(encoding="utf-8"))
    bad = []
    for lock in sorted((HOME / "conf").glob("requirements*.txt")):
        report = report_of(lock)
        if report is None:
            print("audit: the OSV database cannot be reached from here; the locked packages were not looked up")
            return
        bad += [f"audit: {lock.name}: {found}" for found in findings(report) if not borne(found, allowed)]
    print("\n".join(bad) or "audit: no advisory but those of conf/advisories.toml")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
