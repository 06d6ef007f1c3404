"""The driver's sign of life in the folder of a run: one run of a night at a time, and no rank outlives its driver.

The driver holds a lock. The kernel lets go of it when the driver dies, however it dies, and the ranks on the driver's
machine look for that. A lock may say nothing between machines: ranks elsewhere look at a file that the driver writes
again and again, in the folder that all of them share, and end when it has not changed for LOST_SECONDS by their own
clock. So a driver that is stopped for as long (by a debugger, say) loses its ranks there; the run goes on from its
checkpoint. The other way round, each rank has a pulse too, which the driver hears: see silence.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

from halflife.errors import ConfigError, PublishConflictError

NAME: Final = "driver.json"
PULSE: Final = "driver.pulse"
LOOK_EVERY_SECONDS: Final = 1.0
BEAT_EVERY_SECONDS: Final = 5.0
LOST_SECONDS: Final = 60.0
ORPHANED: Final = 70  # exit code of a rank whose driver is gone

Driver = dict[str, Any]  # host, pid, and a name of the run that no other has


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder, and show that this process is alive.

    Raises PublishConflictError where another run holds it, ConfigError where the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A POSIX lock: no child inherits it.
    with (folder / NAME).open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            raise PublishConflictError(
                f"{folder}: another run trains this very model ({file.read().strip()}); let it end, or end it"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{folder}: this file system grants no lock ({error.strerror}); mount it with locks, or choose a "
                "warehouse on one that has them"
            ) from error
        run = uuid.uuid4().hex
        driver = {"host": socket.gethostname(), "pid": os.getpid(), "run": run}
        file.truncate(0)
        file.write(json.dumps(driver))
        file.flush()
        with beating(folder / PULSE, run):
            yield


def end_without_driver(folder: Path) -> None:
    """From now on, end this process when the driver that holds the folder's lock is gone."""
    driver = json.loads((folder / NAME).read_text(encoding="utf-8"))
    here = driver["host"] == socket.gethostname()
    gone = _Lock(folder / NAME, driver).gone if here else _DriversPulse(folder / PULSE, driver["run"]).gone
    threading.Thread(target=_watch, args=(gone,), name="lifeline", daemon=True).start()


def _watch(gone: Callable[[], bool]) -> None:
    over = threading.Event()
    while not over.wait(LOOK_EVERY_SECONDS):
        if gone():
            os._exit(ORPHANED)  # whatever the other threads wait for


class _Lock:
    """The driver's lock, as a process on its machine sees it."""

    def __init__(self, path: Path, driver: Driver) -> None:
        self.path, self.driver = path, driver

    def gone(self) -> bool:
        """Whether the driver has let go of it."""
        try:
            with self.path.open(encoding="utf-8") as file:
                if json.loads(file.read() or "{}") != self.driver:
                    return True  # another run has taken over
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except FileNotFoundError:
            return True
        except (OSError, ValueError):
            return False  # unreadable for a moment: look again
        return True


class Pulse:
    """The pulse of a process on another machine, which tells its name again and again."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.found = self.seen = ""
        self.since = time.monotonic()

    def silent_seconds(self) -> float:
        """How long the pulse has not changed, or not been there, by this machine's clock."""
        with suppress(OSError):  # unreadable for a moment, or removed: as if it had not changed
            self.found = self.path.read_text(encoding="utf-8")
            # Before ours was seen, another's is what the file system still remembers of the last run.
            if self.found.startswith(self.name) and self.found != self.seen:
                self.seen, self.since = self.found, time.monotonic()
        return time.monotonic() - self.since


class _DriversPulse(Pulse):
    def gone(self) -> bool:
        """Whether the file has not changed for too long, or has become another driver's."""
        lost = self.silent_seconds() > LOST_SECONDS
        return lost or (self.seen != "" and not self.found.startswith(self.name))


@contextmanager
def beating(path: Path, name: str) -> Iterator[None]:
    """Write a name and a number that grows to a file every few seconds, on a thread of its own."""
    over = threading.Event()
    numbers = count()

    def beat() -> None:
        fresh = path.with_name(f".{path.name}")
        with suppress(OSError):  # a full disk: who listens bears with it for a while
            fresh.write_text(f"{name} {next(numbers)}", encoding="utf-8")
            fresh.replace(path)

    def go_on() -> None:
        while not over.wait(BEAT_EVERY_SECONDS):
            beat()

    beat()  # before anybody looks: the last run's pulse may still be there
    thread = threading.Thread(target=go_on, name="pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
