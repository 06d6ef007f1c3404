"""The records of files, whatever their format."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import Column, DataFrame
from pyspark.sql import types as T

from halflife.errors import InputMissingError

MALFORMED, INVALID_ENCODING = "malformed_line", "invalid_encoding"  # reason codes


@dataclass(frozen=True)
class Field:
    """A column and its type."""

    column: Column
    kind: T.DataType


@dataclass(frozen=True)
class Records:
    """The records of files of one layout: one row of `frame` each."""

    frame: DataFrame
    file: Column  # its path, as Spark writes it
    fields: Mapping[str, Field]
    fault: Column  # why the reader could make no sense of it, as a reason code; else null
    raw: Column  # its text
    day: Column | None = None  # of its file, where Spark knows it from the file's folder


@dataclass(frozen=True)
class Wanted:
    """The columns that a section of the config maps: (part, column)."""

    section: str
    columns: tuple[tuple[str, str], ...]
    required: frozenset[str]  # parts
    vectors: tuple[str, ...] = ()  # columns that hold lists of numbers

    @property
    def names(self) -> list[str]:
        """The columns, each once."""
        return list(dict.fromkeys(column for _, column in self.columns))

    def check(self, layouts: Mapping[Path, Collection[str]]) -> None:
        """Raises InputMissingError where a file lacks a required column, or all files one that is not required."""
        for part, column in self.columns:
            lacking = [file for file, names in layouts.items() if column not in names]
            if lacking and (part in self.required or len(lacking) == len(layouts)):
                have = ", ".join(layouts[lacking[0]])
                raise InputMissingError(
                    f"{self.section}: no column {column!r} (for {part}) in {lacking[0]}; it has: {have}"
                )
