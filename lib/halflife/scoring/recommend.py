"""Each user's best items, and why they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from halflife.decay import Floats
from halflife.histories.rows import pair_key
from halflife.scoring.pairs import Indexes, Matrix, Users
from halflife.scoring.remembered import Pairs
from halflife.topn import capped_columns, top_columns

SIMILAR = "popular with similar histories"


@dataclass(frozen=True)
class Best:
    """The best items of a block of users, one row each: user and item count the block's rows and columns."""

    user: NDArray[np.int64]
    rank: NDArray[np.int64]  # from 0
    item: NDArray[np.int64]
    strength: Matrix  # that is expected of them

    def behind(self, users: int) -> Best:
        """The same behind so many users of the block."""
        return replace(self, user=self.user + users)

    @staticmethod
    def joined(parts: Sequence[Best]) -> Best:
        """The best items of parts of the block, one after the other."""
        return Best(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Best)))


def best_items(
    expected: Matrix, count: int, category: Indexes, max_per_category: int | None, seen: Users | None
) -> Best:
    """Up to `count` items of each user (B, I) of which anything is expected, equal ones in the order of their columns.

    At most `max_per_category` of each `category` (I,), where one is given, and none of the pairs of `seen`. An item
    without a category, -1, shares it with no other.
    """
    if seen is not None:
        expected = expected.copy()
        expected[seen.user, seen.item] = 0
    if max_per_category is None:
        columns = top_columns(expected, count)
    else:
        alone = np.where(category < 0, -1 - np.arange(len(category)), category)
        columns = capped_columns(expected, count, alone, max_per_category)
    strength = np.take_along_axis(expected, columns, axis=1)
    user, rank = np.nonzero((columns >= 0) & (strength > 0))
    return Best(user, rank, columns[user, rank], strength[user, rank])


def reasons(best: Best, users: Users, remembered: Pairs, event_types: Sequence[str]) -> pa.Array:
    """Why each item is among the best: the event that gives most of it where the user's own past gives half or more.

    `remembered` (M,) are the pairs at the places of `users`.
    """
    pair = _pair_of(users, best)
    whole = np.maximum(best.strength.astype(np.float64), np.finfo(np.float32).tiny)
    share = np.where(pair >= 0, np.append(remembered["strength"], 0.0)[pair], 0.0) / whole
    own = np.flatnonzero(share >= 0.5)
    texts = _own_past(remembered[pair[own]], whole[own], event_types)
    row = np.full(len(pair), len(texts))
    row[own] = np.arange(len(texts))
    return pa.concat_arrays([texts, pa.array([SIMILAR])]).take(pa.array(row))


def _own_past(remembered: Pairs, whole: Floats, event_types: Sequence[str]) -> pa.Array:
    """Texts as "purchase on 2017-11-24: 61% of the interest, 84% with all 3 events", of pairs and their whole (M,)."""
    event_count = remembered["event_count"]
    one = _joined(
        pa.array(event_types, pa.string()).take(pa.array(remembered["leading_type"].copy())),
        " on ",
        pa.array(remembered["leading_day"].copy(), pa.date32()).cast(pa.string()),
        ": ",
        _percent(remembered["leading_strength"] / whole),
        "% of the interest",
    )
    of_all = _percent(remembered["strength"] / whole)
    several = _joined(one, ", ", of_all, "% with all ", pa.array(event_count.copy()).cast(pa.string()), " events")
    return pc.if_else(pa.array(event_count > 1), several, one)


def _percent(share: Floats) -> pa.Array:
    return pa.array(np.rint(100 * np.minimum(share, 1)).astype(np.int32)).cast(pa.string())


def _joined(*parts: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _pair_of(users: Users, best: Best) -> NDArray[np.int64]:
    """The place of each of the best among the block's remembered pairs, -1 where there is none."""
    if not len(users.user):
        return np.full(len(best.user), -1)
    keys, wanted = pair_key(users.user, users.item), pair_key(best.user, best.item)
    order = np.argsort(keys)
    found = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[found] == wanted, found, -1)
