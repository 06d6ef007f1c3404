"""What each run of a job is doing and how it ended: one small JSON file a run, for monitoring and `halflife runs`.

The files lie in the warehouse's `_status/`, by the time at which their run began. A run that says `running` and whose
lease nobody holds was killed.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from halflife.errors import ConfigError
from halflife.warehouse import lease

log = logging.getLogger(__name__)

FOLDER = "_status"

State = Literal["running", "published", "delivered", "unchanged", "failed", "killed"]


@dataclass
class Status:
    """One run of a job for a night, as it was last heard of. Times are UTC, in ISO."""

    job: str
    as_of: str
    started_at: str
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    state: State = "running"
    stage: str | None = None  # the one that runs, or in which the run ended
    seconds: dict[str, float] = field(default_factory=dict)  # of the stages that are done
    ended_at: str | None = None
    exit_code: int | None = None
    message: str | None = None  # what was shown when it ended
    run_id: str | None = None  # of the published run
    log: str | None = None  # name of its log file


class StatusFile:
    """The file of a run that goes on in this process."""

    def __init__(self, root: Path, job: str, as_of: date, log: str | None = None) -> None:
        """Begin a run's file under a warehouse's root. Raises ConfigError where nothing can be written there."""
        now = datetime.now(UTC)
        self.status = Status(job, as_of.isoformat(), _iso(now), log=log)
        self.path = root / FOLDER / f"{now:%Y%m%dT%H%M%S}-{job}-{as_of}-{uuid.uuid4().hex[:8]}.json"
        try:
            self._lease = lease.Lease(self.path, wait=True)  # a new name: others only look
            self._write()
        except OSError as error:
            raise ConfigError(
                f"warehouse: {root}: cannot be written: {error.strerror}; mend that, or name another folder"
            ) from error

    def stage(self, name: str, seconds: Mapping[str, float]) -> None:
        """A stage begins; `seconds` are those of the stages that are done."""
        self.status.stage, self.status.seconds = name, dict(seconds)
        self._try_to_write()

    def end(
        self,
        state: State,
        exit_code: int,
        message: str,
        run_id: str | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        """The run is over; `seconds` are those of all its stages, where none of them failed."""
        status = self.status
        if seconds is not None:
            status.stage, status.seconds = None, dict(seconds)
        status.state, status.exit_code, status.message, status.run_id = state, exit_code, message, run_id
        status.ended_at = _iso(datetime.now(UTC))
        self._try_to_write()
        self._lease.end()

    def _try_to_write(self) -> None:
        try:
            self._write()
        except OSError as error:  # a full disk, say: the job itself meets it, or not
            log.warning("%s: not written: %s", self.path, error)

    def _write(self) -> None:
        fresh = self.path.with_suffix(".fresh")
        fresh.write_text(json.dumps(asdict(self.status), indent=1), encoding="utf-8")
        fresh.replace(self.path)


def history(root: Path) -> list[Status]:
    """The runs under a warehouse's root, the newest first; one that ended without a word is `killed`.

    A file that cannot be read is left out, with a warning in the log.
    """
    found = (_read(path) for path in sorted((root / FOLDER).glob("*.json"), reverse=True))
    return [status for status in found if status is not None]


def _read(path: Path) -> Status | None:
    try:
        status = _parsed(path)
        if status.state == "running" and not lease.is_held(path):
            status = _parsed(path)  # it may have ended between the two looks
            status.state = "killed" if status.state == "running" else status.state
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s: left out: %s", path, error)
        return None
    return status


def _parsed(path: Path) -> Status:
    """A file's status, whatever fields other versions of the code have added."""
    known = {each.name for each in fields(Status)}
    content = json.loads(path.read_text(encoding="utf-8"))
    return Status(**{name: value for name, value in content.items() if name in known})


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
