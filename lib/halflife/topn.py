"""The best of many scores, totally ordered: the one selection behind recommendations and their evaluation."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Columns = NDArray[np.int64]

# Groups of columns for each of the best that are looked for: their largest scores bound the last of them from below.
GROUPS_PER_PLACE: Final = 16
CANDIDATES_PER_PLACE: Final = 16  # scores that reach the bound and are worth a sort
NONE: Final = -1


def top_columns(scores: Scores, count: int) -> Columns:
    """The `count` best columns of each row, best first; equal scores by column, the lower first.

    Shapes: scores (B, n) give (B, min(count, n)). The cost is linear in n: a selection, not a sort.
    Raises ValueError where a score that would be ranked is NaN.
    """
    rows, columns = scores.shape
    count = min(count, columns)
    ranked = np.empty((rows, count), dtype=np.int64)
    if count == 0:
        return ranked
    bounds = _at_least(scores, count)
    row, column = np.divmod(np.flatnonzero(scores >= bounds[:, None]), columns)
    candidates = np.bincount(row, minlength=rows)
    few = candidates <= CANDIDATES_PER_PLACE * count
    # All rows at once where little is left to sort, one by one where many scores are equal.
    row, column = row[few[row]], column[few[row]]
    order = np.lexsort((column, -scores[row, column], row))
    sizes = candidates[few]
    starts = np.cumsum(sizes) - sizes
    ranked[few] = column[order][starts[:, None] + np.arange(count)]
    for row in np.flatnonzero(~few):
        ranked[row] = _best_of(scores[row], count)
    return ranked


def _best_of(scores: Scores, count: int) -> Columns:
    """The `count` best of scores (n,)."""
    threshold = np.partition(scores, scores.size - count)[scores.size - count]
    above, equal = np.flatnonzero(scores > threshold), np.flatnonzero(scores == threshold)
    return np.concatenate([above[np.argsort(-scores[above], kind="stable")], equal[: count - above.size]])


def capped_columns(scores: Scores, count: int, group: NDArray[np.integer[Any]], cap: int) -> Columns:
    """The `count` best columns of each row with at most `cap` of one `group` (n,); -1 behind them where there are less.

    A row whose best columns crowd in few groups is looked at again with four times as many candidates.
    """
    rows, columns = scores.shape
    count = min(count, columns)
    ranked = np.full((rows, count), NONE, dtype=np.int64)
    left, candidates = np.arange(rows), min(2 * count, columns)
    while left.size and count:
        best = top_columns(scores[left], candidates)
        allowed = _occurrence(group[best]) < cap
        place = np.cumsum(allowed, axis=1) - 1
        row, column = np.nonzero(allowed & (place < count))
        ranked[left[row], place[row, column]] = best[row, column]
        left = left[place[:, -1] + 1 < count] if candidates < columns else left[:0]
        candidates = min(4 * candidates, columns)
    return ranked


def _at_least(scores: Scores, count: int) -> Scores:
    """A bound of each row that at least `count` of its scores reach (B,): found by looking at each score once.

    The largest scores of any `count` groups of columns are that many scores.
    """
    rows, columns = scores.shape
    groups = min(GROUPS_PER_PLACE * count, columns)
    width = columns // groups
    largest = scores[:, : groups * width].reshape(rows, width, groups).max(axis=1)
    largest[:, : columns - groups * width] = np.maximum(
        largest[:, : columns - groups * width], scores[:, groups * width :]
    )
    if np.isnan(largest).any():
        raise ValueError("scores hold NaN: nothing can be ranked by them")
    bound: Scores = np.partition(largest, groups - count, axis=1)[:, groups - count]
    return bound


def _occurrence(groups: NDArray[np.integer[Any]]) -> Columns:
    """How often the group of each place has been before in its row: (B, m)."""
    order = np.argsort(groups, axis=1, kind="stable")
    ordered = np.take_along_axis(groups, order, axis=1)
    places = np.broadcast_to(np.arange(groups.shape[1]), groups.shape)
    starts = np.ones(groups.shape, dtype=bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    since_start = places - np.maximum.accumulate(np.where(starts, places, 0), axis=1)
    found = np.empty(groups.shape, dtype=np.int64)
    np.put_along_axis(found, order, since_start, axis=1)
    return found
