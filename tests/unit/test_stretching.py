"""Half-lives of a user's own out of those that all users share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from halflife.decay import Floats, decay
from halflife.model.stretching import stretched

HALF_LIVES = np.array([1.0, 4.0, 16.0, 64.0])
jumps_of_users = arrays(np.float64, (3, 4), elements=st.floats(0, 10))
stretches = arrays(np.float64, 3, elements=st.floats(-3, 3))


# As they may be learned: no powers of 2, in no order, two of them equal.
LEARNED = [
    HALF_LIVES,
    np.array([1 / 24, 1.1, 7.3, 29.0]),
    np.array([2.0, 1.0, 4.0, 3.0]),
    np.array([1.0, 7.0, 7.0, 2.0]),
]


@pytest.mark.parametrize("half_lives", LEARNED, ids=str)
@given(jumps=jumps_of_users)
def test_a_user_of_stretch_0_has_everyones_half_lives(half_lives: Floats, jumps: Floats) -> None:
    found = stretched(jumps, np.zeros(3, dtype=np.float32), half_lives)
    weights = decay(5.0, half_lives)
    if len(set(half_lives)) == len(half_lives):
        np.testing.assert_array_equal(found, jumps)
    np.testing.assert_allclose(found @ weights, jumps @ weights, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("half_lives", LEARNED, ids=str)
@given(jumps=jumps_of_users, stretch=stretches)
def test_the_rate_at_once_is_that_without_a_stretch(half_lives: Floats, jumps: Floats, stretch: Floats) -> None:
    found = stretched(jumps, stretch, half_lives)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), jumps.sum(axis=1), rtol=1e-12, atol=1e-12)


@given(arrays(np.float64, 4, elements=st.floats(0, 10)), st.floats(0, 3), st.floats(0.01, 200))
def test_a_slower_user_remembers_more_at_any_age(jump: Floats, stretch: float, age_days: float) -> None:
    users = stretched(np.tile(jump, (3, 1)), np.array([-stretch, 0.0, stretch]), HALF_LIVES)
    fast, usual, slow = users @ decay(age_days, HALF_LIVES)
    assert fast <= usual * (1 + 1e-9) <= slow * (1 + 1e-9) ** 2


@pytest.mark.parametrize(
    ("stretch", "shares"),
    [
        (2.0, [0, 0, 1, 0]),
        (1.0, [0, 0.5, 0.5, 0]),
        (-0.5, [0.25, 0.75, 0, 0]),
        (9.0, [0, 0, 0, 1]),
        (-9.0, [1, 0, 0, 0]),
    ],
)
def test_a_jump_goes_to_the_channels_around_the_users_half_life(stretch: float, shares: list[float]) -> None:
    found = stretched(np.array([[0.0, 1.0, 0.0, 0.0]]), np.array([stretch]), HALF_LIVES)
    np.testing.assert_allclose(found[0], shares, atol=1e-12)


def test_one_channel_leaves_nothing_to_stretch() -> None:
    np.testing.assert_array_equal(stretched(np.array([[2.0]]), np.array([1.5]), np.array([7.0])), [[2.0]])
