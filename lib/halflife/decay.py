"""The closed forms of decay, in NumPy: everything that happens between two events.

Half-lives and ages are in days. A half-life h halves a value in h days: d_h(x) = 2^(-x/h).
The classical law I(t) = I(0) exp(-lambda t) is the half-life ln(2) / lambda.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SECONDS_PER_DAY = 86_400.0
LN2 = float(np.log(2.0))


def decay(age_days: ArrayLike, half_lives_days: ArrayLike) -> Floats:
    """Share of a value that is left after `age_days`, for each half-life.

    Shapes: ages (...,) and half-lives (K,) give (..., K). Ages below 0 count as 0: an event never
    acts before it happened, and clocks of two machines may differ by a little.
    """
    age = np.maximum(np.asarray(age_days, dtype=np.float64), 0.0)
    left: Floats = np.exp2(-age[..., None] / np.asarray(half_lives_days, dtype=np.float64))
    return left


def decay_integral(age_days: ArrayLike, half_lives_days: ArrayLike, horizon_days: float) -> Floats:
    """Integral of the decay over the `horizon_days` that follow `age_days`, in days.

    Shapes: ages (...,) and half-lives (K,) give (..., K):
    h / ln 2 * (2^(-a/h) - 2^(-(a+H)/h)), the expected number of events of a unit intensity that decays.
    """
    half_lives = np.asarray(half_lives_days, dtype=np.float64)
    # expm1 keeps the difference exact where the horizon is short beside the half-life.
    lost = -np.expm1(-LN2 * horizon_days / half_lives)
    expected: Floats = decay(age_days, half_lives) * (half_lives / LN2 * lost)
    return expected


def probability(expected: ArrayLike) -> NDArray[np.float32]:
    """Probability of at least one event when `expected` are expected: 1 - exp(-Lambda), in [0, 1).

    Rounded towards zero in float32, so that a very large expectation still stays below one.
    """
    score = -np.expm1(-np.asarray(expected, dtype=np.float32))
    return np.minimum(score, np.nextafter(np.float32(1.0), np.float32(0.0)))
