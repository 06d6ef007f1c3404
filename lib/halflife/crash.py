"""Crash points: named places at which a test can kill a job, to see what readers find then and what a rerun makes.

    HALFLIFE_CRASH_POINTS=FILE   write the name of each point that the process reaches to a file, in order
    HALFLIFE_CRASH_AT=N          die at the N-th of them, from 1 on, as by a power cut: no handler of Python's runs
    HALFLIFE_CRASH_WORKERS=DIR   the first of Spark's Python workers that comes to a point of theirs dies; a file of the
                                 point's name there says so
    HALFLIFE_SLOW_WORKERS=DIR    the first of them that comes to a point of theirs waits there for a minute, likewise

Without these variables a point does nothing. After the failpoints of TiKV and FreeBSD.
"""

from __future__ import annotations

import os
import signal
import time
from itertools import count
from pathlib import Path

POINTS = "HALFLIFE_CRASH_POINTS"
AT = "HALFLIFE_CRASH_AT"
WORKERS = "HALFLIFE_CRASH_WORKERS"
SLOW = "HALFLIFE_SLOW_WORKERS"
SLOW_SECONDS = 60.0

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
    if _is_first(WORKERS, name):
        os.kill(os.getpid(), signal.SIGKILL)
    if _is_first(SLOW, name):
        time.sleep(SLOW_SECONDS)


def _is_first(variable: str, name: str) -> bool:
    """Whether a variable asks for something at a point, and this is the first process that comes there."""
    folder = os.environ.get(variable)
    if not folder:
        return False
    try:
        Path(folder, name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
