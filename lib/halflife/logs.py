"""What a job writes down while it runs: lines for people in one file, and JSON lines for machines in another.

    HALFLIFE_LOG=FILE        all that the job, Spark and TensorFlow say; without it only unexpected failures are logged
    HALFLIFE_LOG_JSON=FILE   an object a line of what the job itself says: time, level, message, job, night, run, stage,
                             and of an event its figures: rows, seconds, exit_code

What halflife's own loggers say names no user by id and no credentials. What Spark's loggers and whatever else writes to
the standard streams say is in the first file as it comes.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any, Final

from halflife.escapes import redacted, redacted_tree

LOG: Final = "HALFLIFE_LOG"
JSON: Final = "HALFLIFE_LOG_JSON"

_about: dict[str, str | None] = {}  # what the process works on


def about(**known: str | None) -> None:
    """What the lines that follow are about: job, night, run, stage."""
    _about.update(known)


def event(name: str, **figures: object) -> dict[str, Any]:
    """`extra` of a logged line that is an event: its name and figures."""
    return {"figures": {"event": name, **figures}}


class Lines(logging.Formatter):
    """Lines for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-5s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class JsonLines(logging.Formatter):
    """Lines for machines. Of an exception its type alone: its text may hold what a record held."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in _about.items() if value is not None},
            **getattr(record, "figures", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
        return json.dumps(redacted_tree(line), default=lambda value: redacted(str(value)))


def begin() -> None:
    """Write what is logged from now on to the files that the environment names."""
    path, machine = os.environ.get(LOG), os.environ.get(JSON)
    people: logging.Handler = logging.FileHandler(path, encoding="utf-8") if path else logging.StreamHandler()
    people.setLevel(logging.INFO if path else logging.ERROR)
    people.setFormatter(Lines())
    handlers = [people]
    if machine:
        lines = logging.FileHandler(machine, encoding="utf-8")
        lines.setFormatter(JsonLines())
        lines.addFilter(logging.Filter("halflife"))
        handlers.append(lines)
    logging.basicConfig(level=logging.INFO, handlers=handlers)
