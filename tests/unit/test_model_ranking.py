"""The loss of the order of the next session's items, against its definition written out."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from halflife.model import losses
from halflife.model.batch import Sessions

Floats = NDArray[np.float64]


def by_definition(strength: Floats, holds: NDArray[np.bool_], items: int) -> float:
    """Over pairs of an item that is in the session and one that is not, both among the best, (n,) each."""
    order = np.argsort(-strength, kind="stable")[: losses.RANKED]
    discount = [1 / np.log2(rank + 1) if rank <= 10 else 0.0 for rank in range(1, len(order) + 1)]
    ideal = sum(1 / np.log2(rank + 1) for rank in range(1, min(items, 10) + 1))
    total = 0.0
    for one, di in zip(order, discount, strict=True):
        for other, dj in zip(order, discount, strict=True):
            if holds[one] and not holds[other]:
                total += abs(di - dj) * np.log1p(strength[other] / strength[one])
    return float(total / ideal)


def cases(sizes: list[int], seed: int = 3) -> tuple[Floats, NDArray[np.int64], NDArray[np.bool_], Floats]:
    """Strengths and holds of `sizes` items a cut, their cuts, and how many items each session holds."""
    rng = np.random.default_rng(seed)
    cut = np.repeat(np.arange(len(sizes)), sizes)
    strength, holds = rng.lognormal(sigma=2.0, size=len(cut)), rng.random(len(cut)) < 0.3
    found = np.bincount(cut, weights=holds, minlength=len(sizes))
    return strength, cut, holds, found + rng.integers(0, 4, len(sizes))  # some were never touched before


def ranked(strength: Floats, cut: NDArray[np.int64], holds: NDArray[np.bool_], items: Floats) -> Floats:
    logs = tf.constant(np.log(strength), tf.float32)
    found: Floats = losses.ranking(logs, cut, sessions_of(holds, items)).numpy()
    return found


def sessions_of(holds: NDArray[np.bool_], items: Floats) -> Sessions:
    delay, pair = np.zeros(len(items), dtype=np.float32), np.arange(len(holds), dtype=np.int32)
    return Sessions(delay, items.astype(np.float32), pair, holds.astype(np.float32))


def test_it_is_what_the_definition_says() -> None:
    strength, cut, holds, items = cases([70, 0, 12, 1, 41])
    items[1] = 3  # of items that are all new to the user
    expected = [by_definition(strength[cut == c], holds[cut == c], int(items[c])) for c in range(5)]
    np.testing.assert_allclose(ranked(strength, cut, holds, items), expected, rtol=1e-4, atol=1e-6)
    assert expected[0] > 0
    assert expected[1] == 0


def test_neither_order_nor_company_changes_it() -> None:
    strength, cut, holds, items = cases([30, 55])
    together = ranked(strength, cut, holds, items)
    alone = [ranked(strength[cut == c], cut[cut == c] * 0, holds[cut == c], items[c : c + 1])[0] for c in range(2)]
    np.testing.assert_allclose(alone, together, rtol=1e-5)
    mixed = np.concatenate([np.random.default_rng(1).permutation(30), np.arange(30, 85)])
    np.testing.assert_allclose(ranked(strength[mixed], cut, holds[mixed], items), together, rtol=1e-5)


def test_cuts_without_a_session_add_nothing() -> None:
    assert ranked(np.empty(0), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.bool_), np.zeros(2)).tolist() == [0, 0]
    assert ranked(np.empty(0), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.bool_), np.zeros(0)).tolist() == []


def test_its_gradient_lifts_what_the_session_holds_and_no_scale() -> None:
    """Only ratios count, so that the likelihood alone says how strong all items are together."""
    strength, cut, holds, items = cases([25])
    logs = tf.Variable(np.log(strength), dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(losses.ranking(logs, cut, sessions_of(holds, items)))
    gradient = tf.convert_to_tensor(tape.gradient(loss, logs)).numpy()
    assert (gradient[holds] <= 0).all()
    assert (gradient[~holds] >= 0).all()
    assert gradient.sum() == pytest.approx(0.0, abs=1e-5)
    assert np.abs(gradient).max() > 0.01


def test_it_is_least_where_the_slope_is_that_of_the_odds() -> None:
    """Two items a cut, of which the session holds one, with odds that are the ratio of strengths to the power 1.5."""
    rng, cuts = np.random.default_rng(5), 4_000
    ratio = rng.lognormal(sigma=1.0, size=cuts)
    first = rng.random(cuts) < ratio**1.5 / (1 + ratio**1.5)
    strength, holds = np.stack([ratio, np.ones(cuts)], axis=1).ravel(), np.stack([first, ~first], axis=1).ravel()
    cut, items = np.repeat(np.arange(cuts), 2), np.ones(cuts)
    total = {
        power: ranked(strength**power, cut, holds, items).sum() for power in (0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5)
    }
    assert min(total, key=lambda power: total[power]) == pytest.approx(1.5, abs=0.25)
    assert total[1.0] > total[1.5] < total[2.5]
