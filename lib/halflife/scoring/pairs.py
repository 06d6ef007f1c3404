"""Expected strength of every pair of a block of users: one matrix product, and the memory added sparsely."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halflife.decay import SECONDS_PER_DAY, Floats, decay, decay_integral

Matrix = NDArray[np.float32]
Indexes = NDArray[np.int32]

PRODUCT_ROWS = 16  # users of one matrix product


@dataclass(frozen=True)
class Users:
    """A block of B users, and the places of their M remembered pairs, user by user.

    readouts (B, K, d) and anchor_seconds (B,), the time of the last event behind them: -inf for a user without events,
    whose affinity has faded to popularity. user (M,) counts the block's users from 0, item (M,) is a column.
    """

    readouts: Matrix
    anchor_seconds: Floats
    user: Indexes
    item: Indexes

    def part(self, begin: int, end: int) -> tuple[Users, slice]:
        """The users from `begin` to before `end`, counted from 0 again, and which of all pairs are theirs."""
        theirs = slice(*np.searchsorted(self.user, [begin, end]))
        of_users = slice(begin, end)
        part = (self.readouts[of_users], self.anchor_seconds[of_users], self.user[theirs] - np.int32(begin))
        return Users(*part, self.item[theirs]), theirs


@dataclass(frozen=True)
class States(Users):
    """The same with the memory's states: positive and negative (M, K) are the channels at pair_seconds (M,)."""

    pair_seconds: Floats
    positive: Floats
    negative: Floats


def affinity(
    states: Users,
    at_seconds: Floats,
    half_lives_days: Floats,
    horizon_days: float,
    vectors: Matrix,
    bias: Matrix,
) -> Matrix:
    """Expected strength from affinity over the horizon after `at_seconds` (B,), for every item: (B, I).

    The integral of exp(b_i + sum_k d_k <p_uk, q_i>) by the midpoint rule: the decay is taken half a horizon ahead,
    which keeps it one product of (B, d) with (d, I).
    """
    ages = (at_seconds - states.anchor_seconds) / SECONDS_PER_DAY + horizon_days / 2
    faded = decay(ages, half_lives_days).astype(np.float32)
    users = np.einsum("bk,bkd->bd", faded, states.readouts)
    expected = np.empty((len(users), len(vectors)), dtype=np.float32)
    for part in _products(users, vectors, expected):
        part += bias
        np.exp(part, out=part)
        part *= np.float32(horizon_days)
    return expected


def _products(users: Matrix, items: Matrix, found: Matrix) -> Iterator[Matrix]:
    """Fill `found` (B, I) with the product of each user (B, d) with each item (I, d); yields it by PRODUCT_ROWS rows,
    which are in the cache, from products of one shape, filled up with zeros.

    A score must not depend on who else is in the block. But a matrix product rounds a row by how many rows there are,
    and by where it stands: OpenBLAS cuts rows and columns into parts, and its kernels for AVX2 add the halves of a part
    up in different orders. PRODUCT_ROWS users are the lanes of one part where the items come first.
    """
    part = np.zeros((PRODUCT_ROWS, users.shape[1]), dtype=np.float32)
    products = np.empty((len(items), PRODUCT_ROWS), dtype=np.float32)
    for begin in range(0, len(users), PRODUCT_ROWS):
        rows = found[begin : begin + PRODUCT_ROWS]
        part[: len(rows)] = users[begin : begin + PRODUCT_ROWS]
        np.matmul(items, part.T, out=products)
        rows[:] = products.T[: len(rows)]
        yield rows


def memory(states: States, at_seconds: Floats, half_lives_days: Floats, horizon_days: float) -> Floats:
    """Expected strength from each pair's own memory over the horizon after `at_seconds` (B,), in closed form: (M,)."""
    ages_seconds = at_seconds[states.user] - states.pair_seconds
    return strength(states.positive - states.negative, ages_seconds, half_lives_days, horizon_days)


def strength(channels: Floats, ages_seconds: Floats, half_lives_days: Floats, horizon_days: float) -> Floats:
    """Expected strength over the horizon from rates (M, K) per day, of ages (M,): the integral in closed form, (M,)."""
    weights = decay_integral(ages_seconds / SECONDS_PER_DAY, half_lives_days, horizon_days)
    expected: Floats = np.einsum("mk,mk->m", channels, weights)
    return expected


def add_memory(expected: Matrix, states: Users, remembered: Floats) -> Matrix:
    """Add the pairs' memory (M,) to a block's expected strength (B, I), in place; below zero counts as zero."""
    place = (states.user, states.item)
    expected[place] = np.maximum(expected[place] + remembered.astype(np.float32), np.float32(0))
    return expected


def block_of(lengths: Sequence[int]) -> Indexes:
    """User of each pair in a block whose users have `lengths` pairs one after the other."""
    return np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
