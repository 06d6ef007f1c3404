"""The best of many scores, totally ordered: the one selection behind recommendations and their evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def top_columns(scores: NDArray[np.floating[Any]], count: int) -> NDArray[np.int64]:
    """The `count` best columns of each row, best first; equal scores by column, the lower first.

    Shapes: scores (B, n) give (B, min(count, n)). The cost is linear in n: a selection, not a sort.
    Raises ValueError where a score that would be ranked is NaN.
    """
    rows, columns = scores.shape
    count = min(count, columns)
    if count == 0:
        return np.empty((rows, 0), dtype=np.int64)
    best = np.partition(scores, columns - count, axis=1)[:, columns - count :]
    if np.isnan(best).any():  # NaN sorts as the largest, so it would be found among the best
        raise ValueError("scores hold NaN: nothing can be ranked by them")
    ranked = np.empty((rows, count), dtype=np.int64)
    for row, threshold in enumerate(best[:, 0]):
        above = np.flatnonzero(scores[row] > threshold)
        equal = np.flatnonzero(scores[row] == threshold)[: count - above.size]
        ranked[row] = np.concatenate([above[np.argsort(-scores[row, above], kind="stable")], equal])
    return ranked
