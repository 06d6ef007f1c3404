"""A process that says when it has begun."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Python code that has printed `on`; a folder is its argument. It is killed in the end."""
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        try:
            yield process
        finally:
            process.kill()
