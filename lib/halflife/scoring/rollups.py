"""Sums of the scores that people read: each user's interest by item category, and how each category goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from halflife.decay import probability
from halflife.histogram import Counts
from halflife.scoring.pairs import Indexes, Matrix

# Of which a category's strength is added up: a user's counts up to LARGEST_STRENGTH, and 80 million users have room.
STRENGTH_PARTS: Final = 2.0**20
LARGEST_STRENGTH: Final = 1e5

# The trend of a category looks so many nights back.
NIGHTS: Final = 30
# A category rises or fades where it is a tenth above or below what it was then; it is revived where it fell by a
# quarter in between and is back to nine tenths.
RISING, FADING = 1.1, 0.9
FALLEN, BACK = 0.75, 0.9


@dataclass(frozen=True)
class Categories:
    """Which items (I,) are of which category: `category` counts `names`, -1 is an item without one."""

    names: Sequence[str]
    category: Indexes

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.intp], NDArray[np.intp], Indexes]:
        """The items of all categories one after the other, where each begins, and which it is."""
        order = np.argsort(self.category, kind="stable")
        order = order[np.searchsorted(self.category[order], 0) :]
        present, starts = np.unique(self.category[order], return_index=True)
        return order, starts, present

    def interest(self, users: pa.Array, strength: Matrix) -> pa.Table:
        """A block's rows of `schemas.INTEREST_BY_CATEGORY`, from its `strength` of categories (B, C)."""
        count, width = strength.shape
        user = np.repeat(np.arange(count, dtype=np.int32), width)
        names = pa.array(self.present, pa.string())
        category = np.tile(np.arange(width, dtype=np.int32), count)
        columns = {
            "user_id": pa.DictionaryArray.from_arrays(user, users),
            "category": pa.DictionaryArray.from_arrays(category, names),
            "strength": pa.array(strength.ravel()),
            "score": pa.array(probability(strength).ravel()),
        }
        return pa.Table.from_arrays(
            [*columns.values()],
            schema=pa.schema([pa.field(name, column.type, nullable=False) for name, column in columns.items()]),
        )

    @property
    def present(self) -> list[str]:
        """The names of those that have items, in the order of `interest`."""
        return [self.names[place] for place in self._sorted[2].tolist()]

    def strength(self, expected: Matrix) -> Matrix:
        """Expected strength of each user for each category that has items: sums of the items', (B, I) to (B, C)."""
        order, starts, _ = self._sorted
        if not len(order):
            return np.zeros((len(expected), 0), dtype=np.float32)
        # Without a look at the bounds of each index, which are those of the columns.
        in_order = np.take(expected, order, axis=1, mode="clip")
        summed = np.add.reduceat(in_order, starts, axis=1, dtype=np.float64)
        return summed.astype(np.float32)


def totals(interest: pa.Table, users: int, above: float) -> Counts:
    """Of rows of `interest`, user by user, each category's strength in STRENGTH_PARTS, and users of a score of at least
    `above`: (2, C).

    Whole numbers: a sum of floats would depend on the order of its terms.
    """
    strength = np.minimum(interest["strength"].to_numpy().astype(np.float64), LARGEST_STRENGTH)
    interested = interest["score"].to_numpy() >= np.float32(above)
    found = np.stack([np.rint(strength * STRENGTH_PARTS).astype(np.int64), interested.astype(np.int64)])
    sums: Counts = found.reshape(2, users, -1).sum(axis=1)
    return sums


def trend(
    as_of: date,
    totals: Mapping[str, tuple[float, int]],
    before: Mapping[str, Sequence[float | None]],
    before_night: date | None,
) -> list[tuple[Any, ...]]:
    """Rows of `schemas.CATEGORY_TREND`: of each category, tonight's (strength, users) and its strengths on the nights
    before, as the night `before_night` published them.
    """
    gap = 0 if before_night is None else (as_of - before_night).days
    rows = []
    for category, (strength, users) in sorted(totals.items()):
        # Nights that were not scored are unknown.
        earlier = [None] * max(0, gap - 1) + list(before.get(category, []))
        strengths = [strength, *earlier][: NIGHTS + 1]
        strengths += [None] * (NIGHTS + 1 - len(strengths))
        changes = (change(strengths, 1), change(strengths, NIGHTS))
        rows.append((category, strength, users, *changes, status(strengths), strengths))
    return rows


def change(strengths: Sequence[float | None], nights: int) -> float | None:
    """How much the first of `strengths`, one a night, lies above that of some `nights` before: .1 is a tenth."""
    now, then = strengths[0], strengths[nights]
    return None if now is None or not then else now / then - 1


def status(strengths: Sequence[float | None]) -> str | None:
    """rising, fading, steady or revived, from strengths of one a night, tonight's first: see the constants above.

    Compared with the oldest night that is known; None where that is tonight.
    """
    known = np.array([strength for strength in strengths if strength is not None])
    if len(known) < 2:
        return None
    now, then = known[0], known[-1]
    if not then:
        return "rising" if now else "steady"
    if known[1:].min() <= FALLEN * then and now >= BACK * then:
        return "revived"
    if now >= RISING * then:
        return "rising"
    return "fading" if now <= FADING * then else "steady"
