"""Arrow columns as NumPy arrays and back, without a Python object a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from halflife.decay import Floats


def lists(rows: NDArray[Any]) -> pa.ListArray:
    """(n, length) as n lists."""
    count, length = rows.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * length)
    return pa.ListArray.from_arrays(offsets, pa.array(rows.ravel()))


def matrix(column: pa.ListArray, length: int | None = None) -> NDArray[Any]:
    """Lists of one length as (n, length); without rows the length is the given one, or 0."""
    flat: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), len(flat) // len(column) if len(column) else length or 0)


def seconds(times: pa.Array | pa.ChunkedArray) -> Floats:
    """Timestamps in microseconds as epoch seconds."""
    found: Floats = np.asarray(times.cast(pa.int64())) / 1e6
    return found


def ranges(described: pq.FileMetaData, column: str) -> tuple[Floats, Floats]:
    """Least and greatest number of a column in each row group of a Parquet file, (G,) each.

    Of a group that does not tell, -inf and inf: it has to be read. Of one without rows, whose users were all forgotten,
    inf and -inf: nothing is in it.
    """
    place = described.schema.names.index(column)
    lowest, highest = np.full((2, described.num_row_groups), [[np.inf], [-np.inf]])
    for number in range(described.num_row_groups):
        group = described.row_group(number)
        told = group.column(place).statistics
        if group.num_rows:
            known = told is not None and told.has_min_max
            lowest[number], highest[number] = (told.min, told.max) if known else (-np.inf, np.inf)
    return lowest, highest


@lru_cache(maxsize=16_384)
def _users_in(path: Path) -> tuple[Floats, Floats]:
    """The range of users of each row group of a file: all bands of a worker look into the same files."""
    return ranges(pq.read_metadata(path), "user_index")


def rows_of(path: Path, users: NDArray[Any], columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of some users (sorted) of a file, a table a row group.

    Of a row group that may hold one of the users, the user column is read first.
    """
    lowest, highest = _users_in(path)
    groups = np.flatnonzero(np.searchsorted(users, lowest, "left") < np.searchsorted(users, highest, "right"))
    if not len(groups):
        return
    with pq.ParquetFile(path, memory_map=True) as file:
        for group in groups.tolist():
            of_users = np.isin(file.read_row_group(group, ["user_index"], use_threads=False)["user_index"], users)
            if of_users.any():
                yield file.read_row_group(group, columns, use_threads=False).filter(pa.array(of_users))
