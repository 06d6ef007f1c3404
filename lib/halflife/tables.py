"""Read published tables in a Spark job of one's own: `halflife.tables.read(spark, "scores", date(2026, 11, 24))`."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

from halflife.errors import ConfigError
from halflife.warehouse import FILES, JOB_OF, Warehouse

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROOT: Final = "spark.halflife.warehouse"
ROOT_VARIABLE: Final = "HALFLIFE_WAREHOUSE"


def read(spark: SparkSession, name: str, as_of: date, warehouse: str | Path | None = None) -> DataFrame:
    """A published table as of a night, in the table's schema; it stays the same when the night is published again.

    The warehouse is the folder given, else Spark's property `spark.halflife.warehouse`, else the environment's
    HALFLIFE_WAREHOUSE. Raises ConfigError where there is none of them or no such table, and InputMissingError where
    the night is not published.
    """
    root = warehouse or spark.conf.get(ROOT, None) or os.environ.get(ROOT_VARIABLE)
    if not root:
        raise ConfigError(f"no warehouse: give its folder, or set {ROOT} or {ROOT_VARIABLE}")
    if name not in (named := sorted(JOB_OF.keys() - set(FILES))):
        raise ConfigError(f"{name!r} is no table; name one of {', '.join(named)}")
    return Warehouse(root).read(spark, name, as_of)
