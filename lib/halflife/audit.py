"""Checks of a run's staged tables, before anything is published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from halflife.errors import AuditError


def intake_adds_up(intake: Path) -> dict[str, int]:
    """Totals of the intake in a folder, one row a file; raises AuditError where a file's records are not all there."""
    totals = dict.fromkeys(("rows_read", "accepted", "quarantined", "duplicates"), 0)
    for row in pq.read_table(intake).to_pylist():
        if row["rows_read"] != row["accepted"] + row["quarantined"] + row["duplicates"]:
            raise AuditError(
                f"{row['source_file']}: {row['rows_read']} rows read, but {row['accepted']} accepted + "
                f"{row['quarantined']} quarantined + {row['duplicates']} duplicates; nothing was published"
            )
        totals = {name: total + row[name] for name, total in totals.items()}
    return totals


def same_count(what: str, found: int, expected: int) -> None:
    """Raises AuditError where a table has another number of rows than it must have."""
    if found != expected:
        raise AuditError(f"{what}: {found:,} rows, expected {expected:,}; nothing was published")


def numbered(what: str, frame: DataFrame, index_column: str, start: int) -> int:
    """How many rows there are; raises AuditError where their indexes are not start, start + 1, ... each once.

    Arrays are addressed by the index.
    """
    first, last = F.coalesce(F.min(index_column), F.lit(start)), F.coalesce(F.max(index_column), F.lit(start - 1))
    found = frame.agg(F.count(F.lit(1)), F.count_distinct(index_column), first, last).first()
    assert found is not None  # an aggregate without groups has one row
    rows: int = found[0]
    if tuple(found)[1:] != (rows, start, start + rows - 1):
        raise AuditError(
            f"{what}: {index_column} is not {start:,} to {start + rows - 1:,}, each once; nothing was published"
        )
    return rows


def unique(what: str, frame: DataFrame, *key: str) -> None:
    """Raises AuditError where two rows share a key (ids are not shown: logs may not hold them)."""
    if frame.groupBy(*key).count().where(F.col("count") > 1).limit(1).count():
        raise AuditError(f"{what}: several rows with the same {', '.join(key)}; nothing was published")


def scores(written: Sequence[Row], rows: int) -> int:
    """How many scores the floor left out of the files.

    Raises AuditError where they hold, with those, another number of rows than they must, or where any table of those
    written holds a score outside [0, 1): it may show in one alone, as not all pairs have to be in `scores`.
    """
    files = [row for row in written if row["table"] == "scores"]
    left_out: int = sum(row["left_out"] for row in files)
    same_count("scores", sum(row["rows"] for row in files) + left_out, rows)
    for row in written:
        # Also false where a score is not a number.
        if row["rows"] and not (row["lowest"] >= 0.0 and row["highest"] < 1.0):
            raise AuditError(
                f"{row['table']}: {row['file']} holds scores from {row['lowest']} to {row['highest']}, outside [0, 1); "
                "nothing was published"
            )
    return left_out
