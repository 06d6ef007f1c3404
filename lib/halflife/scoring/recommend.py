"""Each user's best items, and why they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from halflife.decay import SECONDS_PER_DAY, Floats, decay_integral
from halflife.scoring.pairs import Indexes, Matrix, States
from halflife.topn import capped_columns, top_columns

SIMILAR = "popular with similar histories"


@dataclass(frozen=True)
class Leading:
    """Of each remembered pair (M,) of a block: how many events, and which contributes most (see `schemas.MEMORY`)."""

    event_count: NDArray[np.int64]
    type_index: Indexes
    seconds: Floats
    jump: Floats  # (M, K)


@dataclass(frozen=True)
class Best:
    """The best items of a block of users, one row each: user and item count the block's rows and columns."""

    user: NDArray[np.int64]
    rank: NDArray[np.int64]  # from 0
    item: NDArray[np.int64]


def best_items(
    expected: Matrix, count: int, category: Indexes, max_per_category: int | None, seen: States | None
) -> Best:
    """Up to `count` items of each user (B, I) of which anything is expected, equal ones in the order of their columns.

    At most `max_per_category` of each `category` (I,), where one is given, and none of the pairs of `seen`.
    """
    if seen is not None:
        expected = expected.copy()
        expected[seen.user, seen.item] = 0
    if max_per_category is None:
        columns = top_columns(expected, count)
    else:
        columns = capped_columns(expected, count, category, max_per_category)
    rows = np.arange(len(columns))[:, None]
    user, rank = np.nonzero((columns >= 0) & (expected[rows, columns] > 0))
    return Best(user, rank, columns[user, rank])


def reasons(
    best: Best,
    states: States,
    leading: Leading,
    expected: Matrix,
    remembered: Floats,
    at_seconds: float,
    half_lives_days: Floats,
    horizon_days: float,
    event_types: Sequence[str],
) -> pa.Array:
    """Why each item is among the best: the event that gives most of it where the user's own past gives half or more."""
    pair = _pair_of(states, best, expected.shape[1])
    strength = np.maximum(expected[best.user, best.item].astype(np.float64), np.finfo(np.float32).tiny)
    share = np.where(pair >= 0, remembered[pair], 0.0) / strength if len(remembered) else np.zeros(len(pair))
    texts = np.full(len(pair), SIMILAR, dtype=object)
    own = np.flatnonzero(share >= 0.5)
    place = pair[own]
    ages = (at_seconds - leading.seconds[place]) / SECONDS_PER_DAY
    weights = decay_integral(ages, half_lives_days, horizon_days)
    of_event = np.einsum("mk,mk->m", leading.jump[place], weights) / strength[own]
    days = leading.seconds[place].astype("datetime64[s]").astype("datetime64[D]").astype(str)
    for row, kind, day, part, events, whole in zip(
        own, leading.type_index[place], days, of_event, leading.event_count[place], share[own], strict=True
    ):
        texts[row] = f"{event_types[kind]} on {day}: {min(part, 1.0):.0%} of the interest"
        if events > 1:
            texts[row] += f", {min(whole, 1.0):.0%} with all {events} events"
    return pa.array(texts, pa.string())


def _pair_of(states: States, best: Best, items: int) -> NDArray[np.int64]:
    """The place of each of the best among the block's remembered pairs, -1 where there is none."""
    if not len(states.user):
        return np.full(len(best.user), -1)
    keys = states.user.astype(np.int64) * items + states.item
    order = np.argsort(keys)
    wanted = best.user * items + best.item
    found = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[found] == wanted, found, -1)
