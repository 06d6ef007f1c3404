"""The baselines against dense oracles: a score for every column, then one stable sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from halflife.evaluation import baselines
from halflife.evaluation.baselines import POPULARITY_BACKOFF, History


def a_history(seed: int, columns: int, rows: int) -> tuple[History, NDArray[np.float64]]:
    """A random history, and the popularity shares of the columns, which never rise and hold ties."""
    random = np.random.default_rng(seed)
    popularity = np.sort(random.integers(1, 6, columns))[::-1].astype(np.float64)
    history = History(
        columns=random.integers(0, columns, rows).astype(np.int64),
        age_days=np.sort(random.integers(0, 400, rows))[::-1].astype(np.float64),
        sessions=np.arange(rows),
    )
    return history, popularity / popularity[0]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 40), st.sampled_from([1.0, 7.0, 90.0]))
def test_the_sparse_ranking_is_the_dense_one(seed: int, columns: int, rows: int, half_life_days: float) -> None:
    history, share = a_history(seed, columns, rows)
    scores = POPULARITY_BACKOFF * share
    scores += np.bincount(history.columns, 2.0 ** (-history.age_days / half_life_days), minlength=columns)
    expected = np.argsort(-scores, kind="stable")[:10]
    ranked = baselines.decayed_frequency(history, half_life_days, share, 10)
    assert scores[ranked] == pytest.approx(scores[expected], rel=1e-12)
    assert len(set(ranked.tolist())) == min(10, columns)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 40))
def test_frequency_counts_alike_and_breaks_ties_by_column(seed: int, columns: int, rows: int) -> None:
    history, share = a_history(seed, columns, rows)
    scores = np.bincount(history.columns, minlength=columns) + POPULARITY_BACKOFF * share
    ranked = baselines.frequency(history, share, 10)
    assert ranked.tolist() == np.argsort(-scores, kind="stable")[:10].tolist()


def test_a_very_long_half_life_is_frequency_and_a_short_one_recency() -> None:
    history = History(np.array([3, 3, 5]), np.array([30.0, 20.0, 1.0]), np.arange(3))
    share = np.linspace(1.0, 0.5, 6)
    assert baselines.decayed_frequency(history, 1e9, share, 2).tolist() == [3, 5]
    assert baselines.decayed_frequency(history, 1.0, share, 2).tolist() == [5, 3]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 40))
def test_recency_puts_what_was_touched_last_first_and_the_rest_by_popularity(
    seed: int, columns: int, rows: int
) -> None:
    history, share = a_history(seed, columns, rows)
    last = dict(zip(history.columns.tolist(), history.age_days.tolist(), strict=True))
    expected = sorted(range(columns), key=lambda column: (last.get(column, np.inf), -share[column], column))
    assert baselines.recency(history, share, 10).tolist() == expected[:10]


def test_popularity_is_the_column_order() -> None:
    assert baselines.popularity(3, 10).tolist() == [0, 1, 2]
