"""Which code made a night: a job is done again when its own code changes, and not when another job's does."""

from __future__ import annotations

from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Final

import halflife
from halflife.digests import digest_of, digest_of_file

LIBRARY: Final = Path(halflife.__file__).parent


@cache
def code_version(job: str) -> str:
    """Version of the code that a job runs: the release and a digest of the library's files that it can reach."""
    return f"{halflife.__version__}+{digest_of([digest_of_file(file) for file in sources(job)])[:12]}"


def sources(job: str) -> list[Path]:
    """The library's files that the pipeline of a job imports, at its start or within a function, by name."""
    finder = ModuleFinder(path=[str(LIBRARY.parent)])
    finder.run_script(str(LIBRARY / "pipelines" / f"{job}.py"))
    return sorted(Path(file) for module in finder.modules.values() if (file := getattr(module, "__file__", None)))
