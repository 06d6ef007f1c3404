"""The rows of single users in published Parquet files, by the bands of the files and the statistics of row groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from halflife import arrow
from halflife.errors import InputMissingError

KEY = "user_index"
# Files of a table that stay open, each with a descriptor of the process: of 1,024 by the usual limit.
OPEN_FILES: Final = 64
OF_BAND: Final = re.compile(r"(\d+)-[0-9a-f]{32}\.parquet")


class UserRows:
    """The files of a table, each sorted by `user_index`, memory-mapped when they are first asked for.

    A file holds the band of `users_per_file` users that its name says; one whose name says none (or all, where
    `users_per_file` is not known) may hold any user, and is looked into each time.
    """

    def __init__(self, folder: Path, columns: Sequence[str], users_per_file: int | None = None) -> None:
        self._folder, self._columns = folder, [KEY, *columns]
        self._users_per_file = users_per_file or 1
        self._of_band: dict[int, list[Path]] = {}
        self._of_any: list[Path] = []
        paths = sorted(folder.glob("*.parquet"))
        self._empty = pq.read_schema(paths[0]).empty_table().select(self._columns)
        for path in paths:
            named = OF_BAND.fullmatch(path.name) if users_per_file else None
            (self._of_band.setdefault(int(named[1]), []) if named else self._of_any).append(path)
        self._open = lru_cache(OPEN_FILES)(_File)

    def read(self, first: int, last: int) -> pa.Table:
        """The rows of the users from `first` to `last`, by user; those of one user in the order of their file.

        Raises InputMissingError where the files were removed since this object was made.
        """
        bands = range(first // self._users_per_file, last // self._users_per_file + 1)
        files = [*self._of_any, *(path for band in bands for path in self._of_band.get(band, ()))]
        try:
            parts = [part for path in files for part in self._open(path).read(first, last, self._columns)]
        except FileNotFoundError as error:
            raise InputMissingError(
                f"{self._folder}: the night was replaced and removed since it was opened; open it again"
            ) from error
        found = pa.concat_tables([self._empty, *parts])
        # Each user lies in one file: rows of one user are in order already, and a stable sort leaves them so.
        return found if first == last else found.take(np.argsort(found[KEY].to_numpy(), kind="stable"))


class _File:
    """One file, with the range of users of each of its row groups."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path, memory_map=True)
        self._lowest, self._highest = arrow.ranges(self._file.metadata, KEY)

    def read(self, first: int, last: int, columns: list[str]) -> list[pa.Table]:
        """The rows of the users from `first` to `last`, row group by row group."""
        found = []
        for group in np.flatnonzero((self._lowest <= last) & (self._highest >= first)).tolist():
            # The key alone first: many row groups do not have the user.
            users = self._file.read_row_group(group, [KEY], use_threads=False)[KEY].to_numpy()
            begin, end = np.searchsorted(users, [first, last + 1])
            if begin < end:
                rows = self._file.read_row_group(group, columns, use_threads=False)
                found.append(rows.select(columns).slice(begin, end - begin))
        return found
