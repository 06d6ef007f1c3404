"""Matrix products of which no column depends on the others, nor on its place among them, to the last bit.

OpenBLAS' kernels for AVX2 add up some columns of a large product in another order than the rest, so that a result
depends on where it stands. In products of LANES columns each column is one lane of the same registers. The encoder
takes an eighth to a fifth longer so.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

LANES: Final = 16  # as many as the kernels take at once


def times(kernel: Matrix, columns: Matrix, out: Matrix | None = None) -> Matrix:
    """Products of a kernel (..., m, n) with columns (..., n, B), LANES of them at a time: (..., m, B).

    B is a multiple of LANES, and the columns lie in memory row by row.
    """
    found = np.empty((*columns.shape[:-2], kernel.shape[-2], columns.shape[-1]), np.float32) if out is None else out
    np.matmul(kernel[..., None, :, :], _lanes(columns), out=_lanes(found))
    return found


def _lanes(columns: Matrix) -> NDArray[Any]:
    """(..., n, B) as (..., B / LANES, n, LANES), without a copy."""
    return columns.reshape(*columns.shape[:-1], -1, LANES).swapaxes(-3, -2)
