"""What the date of a night means."""

from __future__ import annotations

from datetime import UTC, date, datetime, time


def instant(as_of: date) -> datetime:
    """The first instant of the day, in UTC: everything before it is known, nothing after it."""
    return datetime.combine(as_of, time(), UTC)
