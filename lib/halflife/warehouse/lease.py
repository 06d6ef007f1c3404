"""Leases: who still works in a folder, by a lock that the kernel lets go of when its process dies, however it dies.

No clock decides, so one that jumps does no harm. A lock is seen by every machine that mounts the file system with locks
(a local disk, NFS 4); publishing needs them as well.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".lease"


def of(path: Path) -> Path:
    """The lease of a file or folder: a file beside it."""
    return path.with_name(path.name + SUFFIX)


def without_suffix(path: Path) -> Path:
    """What a path is, or is the lease of."""
    return path.with_name(path.name.removesuffix(SUFFIX))


class Lease:
    """A lock beside a file or folder: its holder may write or remove that. It ends with `end` or with the process."""

    def __init__(self, path: Path, wait: bool = False) -> None:
        """Take the lease of `path`. Raises BlockingIOError where a live process has it, unless it is to `wait`."""
        self.path = of(path)
        self._how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while not self._locked():
            pass  # the last holder removed the file between its opening here and its locking

    def _locked(self) -> bool:
        """Open the lock's file and lock it; False where that is not the file of this name any more."""
        self._file: int | None = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, self._how)
            if self.path.stat().st_ino == os.fstat(self._file).st_ino:
                return True
        except FileNotFoundError:
            pass
        except OSError:
            os.close(self._file)
            raise
        os.close(self._file)
        return False

    def end(self) -> None:
        """Give it back: nothing is left of it."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


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
