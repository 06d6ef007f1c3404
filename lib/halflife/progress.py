"""Progress of a job: a live line on a terminal, silence in a pipe, and every stage in the log."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.status import Status

from halflife.logs import event

log = logging.getLogger(__name__)

# spark-submit pipes a Python driver's output, so the driver cannot see whether a person is watching: the launcher
# (scripts/submit) names the terminal in this variable where there is one.
TERMINAL = "HALFLIFE_TERMINAL"
REFRESH_SECONDS = 0.5


def _terminal() -> TextIO | None:
    path = os.environ.get(TERMINAL)
    if not path:
        return None
    try:
        return Path(path).open("w", encoding="utf-8")
    except OSError:  # a terminal that has gone must not stop a job
        return None


class Progress:
    """The stages of one job, each with its seconds."""

    def __init__(self, tasks: Callable[[], tuple[int, int]] | None = None) -> None:
        """`tasks` tells how many of the running Spark tasks are done, and how many there are."""
        terminal = _terminal()
        self.console = Console(file=terminal, force_terminal=True) if terminal else None
        self.seconds: dict[str, float] = {}
        self.tasks = tasks
        self._message = ""

    def say(self, message: str) -> None:
        """Show how far the current stage has come."""
        self._message = message
        log.info("%s", message)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of the job and show it while it runs."""
        log.info("stage %s begins", name, extra=event("stage begun"))
        begin = time.monotonic()
        with self._shown(name, begin):
            yield
        self.seconds[name] = round(time.monotonic() - begin, 1)
        log.info(
            "stage %s took %.1f s", name, self.seconds[name], extra=event("stage done", seconds=self.seconds[name])
        )
        if self.console:
            self.console.print(f"  [green]done[/] {name:<12} {self.seconds[name]:6.1f} s  [dim]{self._message}[/]")
        self._message = ""

    @contextmanager
    def _shown(self, name: str, begin: float) -> Iterator[None]:
        if self.console is None:
            yield
            return
        over = threading.Event()
        with self.console.status("") as status:
            watcher = threading.Thread(target=self._watch, args=(status, name, begin, over), daemon=True)
            watcher.start()
            try:
                yield
            finally:
                over.set()
                watcher.join()

    def _watch(self, status: Status, name: str, begin: float, over: threading.Event) -> None:
        while not over.wait(REFRESH_SECONDS):
            done, total = self.tasks() if self.tasks else (0, 0)
            far = f"task {done}/{total}  " if total else ""
            status.update(f"{name:<12} {time.monotonic() - begin:6.1f} s  [dim]{far}{self._message}[/]")
