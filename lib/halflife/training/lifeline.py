"""A lock that the driver of a run holds: one run of a night at a time, and no rank outlives its driver.

The kernel lets go of it when the driver dies, however it dies, and the ranks on the driver's machine look for that.
Ranks elsewhere end when those do: a Gloo connection to a dead rank breaks.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from halflife.errors import PublishConflictError

NAME: Final = "driver.json"
LOOK_EVERY_SECONDS: Final = 1.0
ORPHANED: Final = 70  # exit code of a rank whose driver is gone


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder. Raises PublishConflictError where another run holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    # A POSIX lock: no child inherits it.
    with (folder / NAME).open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise PublishConflictError(
                f"{folder}: another run trains this very model ({file.read().strip()}); let it end, or end it"
            ) from error
        file.truncate(0)
        file.write(json.dumps(_driver()))
        file.flush()
        yield


def end_without_driver(folder: Path) -> None:
    """From now on, end this process when the driver that holds the folder's lock is gone."""
    driver = json.loads((folder / NAME).read_text(encoding="utf-8"))
    if driver["host"] == socket.gethostname():
        threading.Thread(target=_watch, args=(folder / NAME, driver), name="lifeline", daemon=True).start()


def _watch(path: Path, driver: dict[str, Any]) -> None:
    over = threading.Event()
    while not over.wait(LOOK_EVERY_SECONDS):
        if _gone(path, driver):
            os._exit(ORPHANED)  # whatever the other threads wait for


def _gone(path: Path, driver: dict[str, Any]) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            if json.loads(file.read() or "{}") != driver:
                return True  # another run has taken over
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False  # unreadable for a moment: look again
    return True


def _driver() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}
