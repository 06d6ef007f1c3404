"""How far a published number is from the computed one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from halflife.decay import probability
from halflife.scoring import precision

SPREAD = np.exp(np.random.default_rng(8).uniform(np.log(1e-12), np.log(100), 200_000)).astype(np.float32)


@given(st.floats(0, 4, exclude_max=True, width=32))
def test_a_rounded_number_keeps_its_bounds(value: float) -> None:
    (found,) = precision.rounded(np.array([value], dtype=np.float32)).tolist()
    assert abs(found - value) <= min(2**-22, 2**-11 * value) or value < 2.0**-126


@given(st.floats(4, 2.0**120, width=32))
def test_a_large_number_keeps_the_precision_of_a_float(value: float) -> None:
    for sign in (1, -1):
        (found,) = precision.rounded(np.array([sign * value], dtype=np.float32)).tolist()
        assert abs(found - sign * value) <= 2**-22 * value


def test_what_is_rounded_has_few_values_and_keeps_its_order() -> None:
    small = np.sort(SPREAD[SPREAD < 0.01])
    found = precision.rounded(small)
    assert (np.diff(found) >= 0).all()
    assert len(np.unique(found)) < len(np.unique(small)) / 3


def test_rounded_nothing_is_nothing_and_no_number_stays_none() -> None:
    found = precision.rounded(np.array([0.0, -0.0, np.inf, np.nan], dtype=np.float32))
    np.testing.assert_array_equal(found, [0.0, 0.0, np.inf, np.nan])


def test_a_rounded_score_stays_below_one() -> None:
    scores = probability(np.array([0.0, 1e-7, 0.3, 12.0, 17.0, 1e9], dtype=np.float32))
    found = precision.rounded_scores(scores)
    assert (found < 1).all()
    np.testing.assert_allclose(found, scores, rtol=0, atol=2**-21)


def test_eight_bits_are_within_their_bound() -> None:
    found = precision.strengths(precision.codes(SPREAD))
    inside = (SPREAD > 5e-7) & (SPREAD < 18)
    np.testing.assert_allclose(found[inside], SPREAD[inside], rtol=0.036)
    np.testing.assert_allclose(-np.expm1(-found), probability(SPREAD), rtol=0.036, atol=5e-7)
    assert precision.strengths(precision.codes(np.zeros(1, dtype=np.float32))).tolist() == [0.0]
