"""Crash points: named places at which a test can kill a job, to see what readers find then and what a rerun makes.

    HALFLIFE_CRASH_POINTS=FILE   write the name of each point that the process reaches to a file, in order
    HALFLIFE_CRASH_AT=N          die at the N-th of them, from 1 on, as by a power cut: no handler of Python's runs
    HALFLIFE_CRASH_WORKERS=DIR   the first of Spark's Python workers that comes to a point of theirs dies; a file of the
                                 point's name there says so

Without these variables a point does nothing. After the failpoints of TiKV and FreeBSD.
"""

from __future__ import annotations

import os
import signal
from itertools import count
from pathlib import Path

POINTS = "HALFLIFE_CRASH_POINTS"
AT = "HALFLIFE_CRASH_AT"
WORKERS = "HALFLIFE_CRASH_WORKERS"

_numbers = count(1)


def point(name: str) -> None:
    """The process is at the point `name`."""
    listed, deadly = os.environ.get(POINTS), os.environ.get(AT)
    if listed:
        with Path(listed).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
    if deadly and next(_numbers) == int(deadly):
        os.kill(os.getpid(), signal.SIGKILL)


def worker(name: str) -> None:
    """A Python worker has come to the point `name`, in the middle of a task."""
    folder = os.environ.get(WORKERS)
    if not folder:
        return
    try:
        Path(folder, name).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
