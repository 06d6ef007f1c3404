"""The files of a range of users: Parquet written from Arrow columns, and what the driver is told of them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import histogram
from halflife.histogram import Counts
from halflife.scoring.pairs import Matrix

# One row is one file that a task has written: its table, its name, and what the audit asks about its rows.
WRITTEN: Final = T.StructType(
    [
        T.StructField("table", T.StringType(), False),
        T.StructField("file", T.StringType(), False),
        T.StructField("rows", T.LongType(), False),
        T.StructField("left_out", T.LongType(), False),  # pairs that are below the floor
        T.StructField("lowest", T.DoubleType(), False),
        T.StructField("highest", T.DoubleType(), False),
        T.StructField("histogram", T.ArrayType(T.LongType(), False), False),  # of its scores, by halflife.histogram
        T.StructField("totals", T.ArrayType(T.LongType(), False), False),  # of its rows by category, see rollups.totals
    ]
)

# Large enough for the ids of a million items, which every row group names once.
DICTIONARY_BYTES: Final = 64 * 1024 * 1024
# pyarrow looks for the least and greatest id anew in each batch of this many rows (1,024 by itself): 10 ns a pair.
BATCH_ROWS: Final = 65_536


@dataclass
class _Said:
    """What is said of one file."""

    rows: int = 0
    left_out: int = 0
    lowest: float = np.inf
    highest: float = -np.inf
    histogram: Counts = field(default_factory=lambda: np.zeros(histogram.BINS, dtype=np.int64))
    totals: Counts | None = None


@dataclass
class RangeFiles:
    """The files of one range of users, one a table, opened when its first rows come.

    Of each table: the columns that have few values, which are written once, and those by which a reader finds rows.
    """

    folders: Mapping[str, Path]
    dictionary: Mapping[str, Collection[str]]
    statistics: Mapping[str, Collection[str]]
    name: str = field(default_factory=lambda: f"part-{uuid.uuid4().hex}.parquet")
    writers: dict[str, pq.ParquetWriter] = field(default_factory=dict)
    said: dict[str, _Said] = field(default_factory=dict)

    def __enter__(self) -> RangeFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self.writers.values():
            writer.close()

    def write(
        self, table: str, rows: pa.Table, scores: Matrix, left_out: int = 0, totals: Counts | None = None
    ) -> None:
        """Add a row group to a table, with the scores that are in it, and what is summed up of it."""
        said = self.said.setdefault(table, _Said())
        said.rows += rows.num_rows
        said.left_out += left_out
        if totals is not None:
            said.totals = totals if said.totals is None else said.totals + totals
        if scores.size:
            # NumPy's minimum and maximum, unlike Python's, stay NaN once a score is: the audit must see it.
            said.lowest = float(np.minimum(said.lowest, scores.min()))
            said.highest = float(np.maximum(said.highest, scores.max()))
            said.histogram += histogram.count(scores)
        if table not in self.writers:
            self.writers[table] = pq.ParquetWriter(
                self.folders[table] / self.name,
                rows.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=[*self.dictionary[table]],
                write_statistics=[*self.statistics[table]],
                dictionary_pagesize_limit=DICTIONARY_BYTES,
                write_batch_size=BATCH_ROWS,
                store_schema=bool(rows.schema.metadata),  # the only way to metadata of our own; else ids are text
            )
        if rows.num_rows:
            self.writers[table].write_table(rows, row_group_size=rows.num_rows)

    def written(self) -> pa.RecordBatch:
        """One row a file, in the columns of `WRITTEN`."""
        rows = [
            {
                **vars(said),
                "table": table,
                "file": self.name,
                "histogram": said.histogram.tolist(),
                "totals": [] if said.totals is None else said.totals.ravel().tolist(),
            }
            for table, said in self.said.items()
        ]
        return pa.RecordBatch.from_pylist(rows, to_arrow_schema(WRITTEN))
