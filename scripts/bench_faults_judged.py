"""The kills of scripts/bench faults that are judged, kept in a file: an interrupted run goes on from it."""

from __future__ import annotations

import json
from pathlib import Path

from bench_processes import HOME

from halflife.digests import digest_of, digest_of_file


class Judged:
    """Violations by kill, a line each in a file. Lines of other code count as absent: it may fail elsewhere."""

    def __init__(self, file: Path | None) -> None:
        self._file, self._code = file, _code()
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file and file.exists() else []
        if file and lines and not lines[-1].endswith("\n"):  # what a killed run has left is no line
            file.write_text("".join(lines := lines[:-1]), encoding="utf-8")
        found = map(json.loads, lines)
        self.violations: dict[str, list[str]] = {
            each["kill"]: each["violations"] for each in found if each["code"] == self._code
        }

    def add(self, kill: str, violations: list[str]) -> None:
        self.violations[kill] = violations
        if self._file:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"code": self._code, "kill": kill, "violations": violations}) + "\n")


def _code() -> str:
    """Digest of the library, the jobs, their configs and all scripts."""
    files = (path for folder in ("lib", "jobs", "conf", "scripts") for path in (HOME / folder).rglob("*"))
    kept = (path for path in files if path.is_file() and "__pycache__" not in path.parts)
    return digest_of([digest_of_file(path) for path in sorted(kept)])
