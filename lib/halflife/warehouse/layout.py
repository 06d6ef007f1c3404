"""What lies where in a warehouse: the tables of each job, and their schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # answers are read from here without Spark
    from pyspark.sql import types as T

# The tables of each job, published together.
TABLES: Mapping[str, tuple[str, ...]] = {
    "sessionize": ("events", "quarantine", "intake", "sessions", "users", "items", "sequences", "active_sequences"),
    "train": ("models",),
    "score": ("memory", "user_states", "scores", "recommendations", "interest_by_category", "category_trend"),
    "evaluate": ("metrics", "evaluation"),
    "report": ("reports",),
}
# Tables of which each night holds that night's rows alone; of every other table a night holds the whole.
NIGHTLY = ("quarantine", "intake", "active_sequences")
# What is published as files that are no rows of a table.
FILES = ("models", "evaluation", "reports")
JOB_OF: Mapping[str, str] = {table: job for job, tables in TABLES.items() for table in tables}

MANIFEST = "manifest.json"
RUNS = "_runs"
STAGING = "_staging"
ID = "_id"
ERASED = "_erased"

# A reader skips row groups by their statistics: small enough that one user's rows are read in a millisecond.
ROW_GROUP_BYTES = 1024 * 1024


def schema_of(table: str) -> T.StructType:
    """The schema constant of a table."""
    from halflife import schemas

    schema: T.StructType = getattr(schemas, table.upper())
    return schema
