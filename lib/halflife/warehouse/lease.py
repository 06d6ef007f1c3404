"""Leases: who still works in a folder, by a lock that the kernel lets go of when its process dies, however it dies.

No clock decides, so one that jumps does no harm. A lock is seen by every machine that mounts the file system with locks
(a local disk, NFS 4); publishing needs them as well.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".lease"


def of(path: Path) -> Path:
    """The lease of a file or folder: a file beside it."""
    return path.with_name(path.name + SUFFIX)


class Lease:
    """A lock beside a file or folder; whoever has it may write or remove that."""

    def __init__(self, path: Path) -> None:
        """Take the lease of `path`. Raises BlockingIOError where a live process has it."""
        self.path = of(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            self._file = self.path.open("a")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._file.close()
                raise
            with suppress(FileNotFoundError):
                if self.path.stat().st_ino == os.fstat(self._file.fileno()).st_ino:
                    return
            self._file.close()  # the last holder removed this file after it was opened here: it guards nothing

    def end(self) -> None:
        """Give it back: nothing is left of it."""
        self.path.unlink(missing_ok=True)
        self._file.close()


def is_held(path: Path) -> bool:
    """Whether a live process has the lease of `path`."""
    try:
        with of(path).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def taken_over(path: Path) -> Iterator[bool]:
    """Whether nobody has the lease of `path`; then this process has it while the block runs."""
    try:
        lease = Lease(path)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        lease.end()
