"""The rows of METRICS, and a summary of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from pyspark.sql import Row


class MetricRow(NamedTuple):
    """One row of METRICS."""

    night: date
    model: str
    segment: str
    metric: str
    value: float
    users: int
    baseline: str | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SummaryRow:
    """One model of one night and segment: its metrics by name, and the users they are means of."""

    night: date
    segment: str
    model: str
    users: int
    values: dict[str, float]


def summary(rows: Iterable[MetricRow | Row]) -> list[SummaryRow]:
    """Rows of METRICS without the differences, one row per night, segment and model, in the order of appearance."""
    found: dict[tuple[date, str, str], SummaryRow] = {}
    for row in rows:
        if row.baseline is None:
            key = (row.night, row.segment, row.model)
            found.setdefault(key, SummaryRow(*key, users=row.users, values={})).values[row.metric] = row.value
    return list(found.values())
