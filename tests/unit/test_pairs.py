"""A block's matrix arithmetic against the sum over channels, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from halflife.decay import decay, decay_integral
from halflife.scoring import pairs

HALF_LIVES = np.array([1.0, 7.0, 90.0])
HORIZON = 7.0
DAY = 86_400.0
AT = 1_000 * DAY


@pytest.fixture
def states() -> pairs.States:
    random = np.random.default_rng(3)
    return pairs.States(
        readouts=random.normal(0, 0.3, (3, 3, 4)).astype(np.float32),
        anchor_seconds=np.array([AT - DAY, AT - 40 * DAY, -np.inf]),
        user=pairs.block_of([2, 1, 0]),
        item=np.array([4, 0, 4], dtype=np.int32),
        pair_seconds=np.array([AT - DAY, AT - 5 * DAY, AT - 300 * DAY]),
        positive=random.random((3, 3)),
        negative=np.array([[0.0] * 3, [0.0] * 3, [9.0] * 3]),
    )


def test_a_block_is_the_sum_over_channels_of_each_pair(states: pairs.States) -> None:
    random = np.random.default_rng(4)
    vectors, bias = random.normal(0, 0.3, (5, 4)).astype(np.float32), random.normal(-3, 1, 5).astype(np.float32)
    at = np.full(3, AT)
    block = pairs.affinity(states, at, HALF_LIVES, HORIZON, vectors, bias)
    for user in range(3):
        faded = decay((AT - states.anchor_seconds[user]) / DAY + HORIZON / 2, HALF_LIVES)
        for item in range(5):
            parts = [faded[k] * states.readouts[user, k] @ vectors[item] for k in range(3)]
            np.testing.assert_allclose(block[user, item], HORIZON * np.exp(bias[item] + sum(parts)), rtol=1e-5)


def test_a_user_without_events_gets_the_popularity(states: pairs.States) -> None:
    bias = np.log(np.array([0.1, 0.2], dtype=np.float32))
    block = pairs.affinity(states, np.full(3, AT), HALF_LIVES, HORIZON, np.ones((2, 4), dtype=np.float32), bias)
    np.testing.assert_allclose(block[2], [0.7, 1.4], rtol=1e-6)


def test_memory_is_added_where_it_is_and_never_below_zero(states: pairs.States) -> None:
    remembered = pairs.memory(states, np.full(3, AT), HALF_LIVES, HORIZON)
    expected = sum(states.positive[0, k] * decay_integral(1.0, HALF_LIVES, HORIZON)[k] for k in range(3))
    np.testing.assert_allclose(remembered[0], expected)
    assert remembered[2] < 0
    block = pairs.add_memory(np.full((3, 5), 0.01, dtype=np.float32), states, remembered)
    np.testing.assert_allclose(block[0], [0.01 + remembered[1], 0.01, 0.01, 0.01, 0.01 + remembered[0]], rtol=1e-6)
    assert block[1, 4] == 0
    assert (block[2] == np.float32(0.01)).all()


def test_each_user_has_its_own_instant(states: pairs.States) -> None:
    at = np.array([AT, AT + 90 * DAY, AT])
    later = pairs.memory(states, at, HALF_LIVES, HORIZON)
    same = pairs.memory(states, np.full(3, AT), HALF_LIVES, HORIZON)
    np.testing.assert_array_equal(later[:2], same[:2])
    assert abs(later[2]) < abs(same[2])


@pytest.mark.parametrize("rows", [1, 7, 9, 32, 70])
def test_a_score_does_not_depend_on_who_else_is_in_the_block(rows: int) -> None:
    """To the last bit, whatever the block and the user's place in it."""
    random = np.random.default_rng(9)
    whole = many_users(random, 70)
    vectors, bias = random.normal(0, 0.3, (501, 24)).astype(np.float32), random.normal(-3, 1, 501).astype(np.float32)
    together = pairs.affinity(whole, np.full(70, AT), HALF_LIVES, HORIZON, vectors, bias)
    for begin in range(0, 70, rows):
        part = pairs.Users(whole.readouts[begin : begin + rows], whole.anchor_seconds[begin : begin + rows], *NO_PAIRS)
        at = np.full(len(part.anchor_seconds), AT)
        alone = pairs.affinity(part, at, HALF_LIVES, HORIZON, vectors, bias)
        np.testing.assert_array_equal(alone, together[begin : begin + rows])


def test_a_score_does_not_depend_on_the_number_of_cores() -> None:
    """To a millionth: with several threads BLAS cuts the items into parts, and rounds the last of a part otherwise."""
    random = np.random.default_rng(10)
    users = many_users(random, 40)
    vectors, bias = random.normal(0, 0.3, (5_003, 24)).astype(np.float32), np.full(5_003, -3, dtype=np.float32)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(pairs.affinity(users, np.full(40, AT), HALF_LIVES, HORIZON, vectors, bias))
    np.testing.assert_allclose(*found, rtol=1e-6)


NO_PAIRS = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32)


def many_users(random: np.random.Generator, count: int) -> pairs.Users:
    readouts = random.normal(0, 0.3, (count, 3, 24)).astype(np.float32)
    return pairs.Users(readouts, AT - random.exponential(30 * DAY, count), *NO_PAIRS)
