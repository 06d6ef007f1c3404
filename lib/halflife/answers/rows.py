"""The rows of single users in published Parquet files, by the statistics of their row groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

KEY = "user_index"


class UserRows:
    """The files of a table, each sorted by `user_index`, memory-mapped: open as long as this object lives."""

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._files = [_File(path, [KEY, *columns]) for path in sorted(folder.glob("*.parquet"))]

    def read(self, first: int, last: int) -> pa.Table:
        """The rows of the users from `first` to `last`, by user; those of one user in the order of their file."""
        found = pa.concat_tables([part for file in self._files for part in file.read(first, last)])
        # Each user lies in one file: rows of one user are in order already, and a stable sort leaves them so.
        return found if first == last else found.take(np.argsort(found[KEY].to_numpy(), kind="stable"))


class _File:
    """One file, with the range of users of each of its row groups."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self._file = pq.ParquetFile(path, memory_map=True)
        self._columns = columns
        self._empty = self._file.schema_arrow.empty_table().select(columns)
        described = self._file.metadata
        place = self._file.schema_arrow.names.index(KEY)
        ranges = [described.row_group(group).column(place).statistics for group in range(described.num_row_groups)]
        # A row group whose users were all forgotten has no statistics: nobody lies in it.
        self._lowest = np.array([np.inf if found is None or not found.has_min_max else found.min for found in ranges])
        self._highest = np.array([-np.inf if found is None or not found.has_min_max else found.max for found in ranges])

    def read(self, first: int, last: int) -> list[pa.Table]:
        """The rows of the users from `first` to `last`, at least one table."""
        found = [self._empty]
        for group in np.flatnonzero((self._lowest <= last) & (self._highest >= first)).tolist():
            # The key alone first: of many files, most do not have the user.
            users = self._file.read_row_group(group, [KEY], use_threads=False)[KEY].to_numpy()
            begin, end = np.searchsorted(users, [first, last + 1])
            if begin < end:
                rows = self._file.read_row_group(group, self._columns, use_threads=False)
                found.append(rows.select(self._columns).slice(begin, end - begin))
        return found
