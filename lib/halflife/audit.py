"""Checks of a run's staged tables, before anything is published."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from halflife.errors import AuditError


def intake_adds_up(intake: DataFrame) -> dict[str, int]:
    """Totals of the intake; raises AuditError where a file's records are not all accounted for."""
    lost = intake.where(F.col("rows_read") != F.col("accepted") + F.col("quarantined") + F.col("duplicates"))
    first = lost.first()
    if first is not None:
        raise AuditError(
            f"{first['source_file']}: {first['rows_read']} rows read, but {first['accepted']} accepted + "
            f"{first['quarantined']} quarantined + {first['duplicates']} duplicates; nothing was published"
        )
    names = ("rows_read", "accepted", "quarantined", "duplicates")
    totals = intake.agg(*(F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in names)).first()
    assert totals is not None  # an aggregate without groups has one row
    return {name: int(totals[name]) for name in names}


def quarantine_within(quarantine: DataFrame, totals: dict[str, int], bound: float) -> None:
    """Raises AuditError with the top reasons where more than the `bound` share of the rows was rejected."""
    if totals["quarantined"] <= bound * totals["rows_read"]:
        return
    reasons = quarantine.groupBy("reason").count().orderBy(F.desc("count"), "reason").limit(3).collect()
    shown = ", ".join(f"{row['reason']} {row['count']:,}" for row in reasons)
    raise AuditError(
        f"{totals['quarantined']:,} of {totals['rows_read']:,} rows read were rejected ({shown}), more than "
        f"sessionize.max_quarantine_share={bound}; nothing was published; mend the source, or raise the bound"
    )


def same_count(what: str, found: int, expected: int) -> None:
    """Raises AuditError where a table has another number of rows than it must have."""
    if found != expected:
        raise AuditError(f"{what}: {found:,} rows, expected {expected:,}; nothing was published")


def dense(what: str, frame: DataFrame, index: str) -> None:
    """Raises AuditError where an index is not exactly 0..n-1: arrays are addressed by it."""
    found = frame.agg(F.count(F.lit(1)), F.count_distinct(index), F.coalesce(F.max(index), F.lit(-1))).first()
    assert found is not None  # an aggregate without groups has one row
    rows, numbers, last = found
    if not rows == numbers == last + 1:
        raise AuditError(f"{what}: {index} is not 0 to {rows - 1:,}, each once; nothing was published")


def unique(what: str, frame: DataFrame, *key: str) -> None:
    """Raises AuditError where two rows share a key (ids are not shown: logs may not hold them)."""
    if frame.groupBy(*key).count().where(F.col("count") > 1).limit(1).count():
        raise AuditError(f"{what}: several rows with the same {', '.join(key)}; nothing was published")


def scores(written: Sequence[Row], pairs: int) -> None:
    """Raises AuditError where the files hold another number of scores than pairs, or a score outside [0, 1)."""
    files = [row for row in written if row["table"] == "scores"]
    same_count("scores", sum(row["rows"] for row in files), pairs)
    for row in files:
        # Also false where a score is not a number.
        if not (row["lowest"] >= 0.0 and row["highest"] < 1.0):
            raise AuditError(
                f"scores: {row['file']} holds scores from {row['lowest']} to {row['highest']}, outside [0, 1); "
                "nothing was published"
            )
