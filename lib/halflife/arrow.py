"""Arrow columns as NumPy arrays and back, without a Python object a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
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
