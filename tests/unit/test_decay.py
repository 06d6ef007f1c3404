"""The closed forms: the worked example, and the integrals against quadrature."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halflife import decay

HALF_LIVES = np.array([1 / 24, 1.0, 7.0, 30.0, 180.0])


def test_the_worked_example() -> None:
    half_life = decay.LN2 / 0.1  # of the classical law's rate lambda, per day
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


@pytest.mark.parametrize("expected", [0.0, 1e-30, 1e-9, 0.5, 17.0, 1e30])
def test_a_score_is_a_probability_below_one(expected: float) -> None:
    score = decay.probability(np.float32(expected))
    assert 0 <= score < 1
    np.testing.assert_allclose(score, -np.expm1(-expected), rtol=1e-6)
