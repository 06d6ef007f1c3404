"""The closed forms: the worked example, the laws of the monoid, and the integrals against quadrature."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halflife import decay

HALF_LIVES = np.array([1 / 24, 1.0, 7.0, 30.0, 180.0])
amounts = st.floats(0, 1e6)
times = st.floats(0, 3e7)  # seconds: a year
states = st.tuples(st.lists(amounts, min_size=5, max_size=5), times)


def test_the_worked_example() -> None:
    half_life = decay.half_life_of_rate(0.1)
    left = 10 * decay.decay([1.0, 2.0, 3.0], [half_life])[:, 0]
    np.testing.assert_allclose(left, [9.048, 8.187, 7.408], atol=5e-4)


def test_a_half_life_halves() -> None:
    np.testing.assert_allclose(decay.decay(HALF_LIVES, HALF_LIVES).diagonal(), 0.5)


def test_an_event_that_is_still_to_come_has_not_faded() -> None:
    assert decay.decay(-1.0, [7.0]) == 1.0


@given(st.floats(0, 400), st.floats(0.01, 60))
def test_the_integral_is_the_area_under_the_decay(age_days: float, horizon_days: float) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(60)
    # An hour's half-life needs the nodes where it still lives: the first two days.
    edges = np.unique(np.minimum([0.0, 0.25, 0.5, 1.0, 2.0, horizon_days], horizon_days))
    area = np.zeros_like(HALF_LIVES)
    for begin, end in itertools.pairwise(edges):
        points = age_days + begin + (end - begin) * (nodes + 1) / 2
        area += (end - begin) / 2 * weights @ decay.decay(points, HALF_LIVES)
    expected = decay.decay_integral(age_days, HALF_LIVES, horizon_days)
    np.testing.assert_allclose(expected, area, rtol=1e-9, atol=1e-12)


@given(states, states)
def test_merging_commutes(a: tuple[list[float], float], b: tuple[list[float], float]) -> None:
    left, anchor = decay.merge(*a, *b, HALF_LIVES)
    right, other = decay.merge(*b, *a, HALF_LIVES)
    assert anchor == other
    np.testing.assert_array_equal(left, right)


@given(states, states, states)
def test_merging_associates(
    a: tuple[list[float], float], b: tuple[list[float], float], c: tuple[list[float], float]
) -> None:
    left, anchor = decay.merge(*decay.merge(*a, *b, HALF_LIVES), *c, HALF_LIVES)
    right, other = decay.merge(*a, *decay.merge(*b, *c, HALF_LIVES), HALF_LIVES)
    assert anchor == other
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)


@given(states, st.floats(0, 1e6))
def test_zero_is_neutral_and_an_event_can_be_taken_back(state: tuple[list[float], float], jump: float) -> None:
    values, anchor = state
    same, _ = decay.merge(values, anchor, np.zeros(5), anchor, HALF_LIVES)
    np.testing.assert_array_equal(same, values)
    later, at = decay.merge(values, anchor, np.full(5, jump), anchor + 60, HALF_LIVES)
    back, _ = decay.merge(later, at, np.full(5, -jump), at, HALF_LIVES)
    np.testing.assert_allclose(
        back, np.asarray(values) * decay.decay((at - anchor) / 86_400, HALF_LIVES), rtol=1e-9, atol=1e-9 * (1 + jump)
    )


@pytest.mark.parametrize("expected", [0.0, 1e-30, 1e-9, 0.5, 17.0, 1e30])
def test_a_score_is_a_probability_below_one(expected: float) -> None:
    score = decay.probability(np.float32(expected))
    assert 0 <= score < 1
    np.testing.assert_allclose(score, -np.expm1(-expected), rtol=1e-6)
