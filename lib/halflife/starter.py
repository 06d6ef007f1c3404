"""A job and a command end with what has started them, however that ends: killed, they could do nothing to end them.

Who starts one names itself in its environment, HALFLIFE_STARTER=PID. Spark's launcher, the JVM between a starter and
a job's Python, is watched too: it does not end that with itself. The kernel tells (pidfd_open, Linux 5.3), and no
clock; who only has a terminal that is closed, under nohup say, names nobody and is not waited upon.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import Final

STARTER: Final = "HALFLIFE_STARTER"
GATEWAY: Final = "PYSPARK_GATEWAY_PORT"  # set by Spark's launcher for the Python that it starts


def end_with_it() -> None:
    """From now on, end this process when its starter, or the launcher that it is below, has ended."""
    watched = [int(os.environ[STARTER])] if os.environ.get(STARTER) else []
    if GATEWAY in os.environ:
        watched.append(os.getppid())
    ends = select.poll()
    for process in watched:
        try:
            ends.register(os.pidfd_open(process), select.POLLIN)
        except ProcessLookupError:
            _end()
    if watched:
        threading.Thread(target=_wait, args=(ends,), name="starter", daemon=True).start()


def _wait(ends: select.poll) -> None:
    ends.poll()
    _end()


def _end() -> None:
    """As by a power cut: whatever other threads wait for, and as readers never see half a night."""
    os.kill(os.getpid(), signal.SIGKILL)
