"""The records of files of any format: their fields by name, what is wrong with a line, and the record itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from halflife.config import FilesConfig
from halflife.sources import parquet, text
from halflife.sources.records import Records, Wanted


def records(
    spark: SparkSession, config: FilesConfig, pattern: str, files: Sequence[Path], wanted: Wanted
) -> list[Records]:
    """The records of the files, by layout; `pattern` is that of a log's lines.

    Raises InputMissingError that names a file and the column it lacks, UnreadableInputError that names the file.
    """
    if config.format == "parquet":
        return parquet.records(spark, config.path, files, wanted)
    if config.format == "csv":
        return text.of_csv(spark, config, files, wanted)
    if config.format == "json":
        return text.of_json(spark, config, files, wanted)
    return text.of_log(spark, config, files, pattern)
