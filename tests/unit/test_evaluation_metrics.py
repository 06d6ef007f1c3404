"""The metrics' arithmetic against scikit-learn and short oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from halflife.evaluation import metrics
from halflife.topn import top_columns


def a_basket_and_scores(seed: int, items: int, decimals: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Random scores of some items, with ties where `decimals` is small, and a non-empty random basket."""
    random = np.random.default_rng(seed)
    scores = np.round(random.random(items), decimals)
    basket = random.choice(items, size=int(random.integers(1, items + 1)), replace=False)
    return scores, basket.astype(np.int64)


def binned(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Pairs, positives and summed scores of one bin per distinct score: nothing is approximate."""
    _, place = np.unique(scores, return_inverse=True)
    return tuple(np.bincount(place, weights=values) for values in (np.ones(scores.size), labels, scores))


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 40), st.integers(0, 3), st.integers(0, 45))
def test_top_columns_is_a_stable_sort(seed: int, items: int, decimals: int, count: int) -> None:
    scores = np.round(np.random.default_rng(seed).random((3, items)), decimals)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    assert np.array_equal(top_columns(scores, count), expected)
    # Rounding first: two different float64 may be one float32.
    assert np.array_equal(top_columns(scores.astype(np.float32), count), expected)


def test_top_columns_ranks_minus_infinity_last_and_refuses_nan() -> None:
    scores = np.array([[-np.inf, 0.0, -np.inf, np.inf]])
    assert top_columns(scores, 4).tolist() == [[3, 1, 0, 2]]
    with pytest.raises(ValueError, match="NaN"):
        top_columns(np.array([[0.0, np.nan, 1.0]]), 1)


def relevant(basket: NDArray[np.int64], items: int) -> NDArray[np.bool_]:
    return np.isin(np.arange(items), basket)[None, :]


def oracle(ranked: list[int], basket: set[int], cutoff: int) -> tuple[float, ...]:
    """Recall, precision, NDCG, hit rate, MRR and average precision of one user, word for word."""
    dcg, reciprocal, precisions = 0.0, 0.0, 0.0
    for place, item in enumerate(ranked[:cutoff]):
        if item in basket:
            dcg += 1 / np.log2(place + 2)
            reciprocal = reciprocal or 1 / (place + 1)
            precisions += len(set(ranked[: place + 1]) & basket) / (place + 1)
    ideal = sum(1 / np.log2(place + 2) for place in range(min(cutoff, len(basket))))
    found = set(ranked[:cutoff]) & basket
    recall, precision = len(found) / len(basket), len(found) / cutoff
    return recall, precision, dcg / ideal, float(bool(found)), reciprocal, precisions / len(basket)


@given(seeds, st.integers(1, 40), st.integers(1, 20))
def test_the_ranking_metrics_are_the_oracles(seed: int, items: int, cutoff: int) -> None:
    scores, basket = a_basket_and_scores(seed, items, decimals=1)
    ranked = top_columns(scores[None, :], 20)
    found = metrics.hits(ranked, relevant(basket, items))
    values = (
        metrics.recall_at(found, [basket.size], cutoff),
        metrics.precision_at(found, cutoff),
        metrics.ndcg_at(found, [basket.size], cutoff),
        metrics.hit_rate_at(found, cutoff),
        metrics.mrr_at(found, cutoff),
        metrics.average_precision_at(found, [basket.size], cutoff),
    )
    expected = oracle(ranked[0].tolist(), set(basket.tolist()), cutoff)
    assert [float(value[0]) for value in values] == pytest.approx(expected)


@given(seeds, st.integers(2, 40), st.integers(1, 20))
def test_ndcg_is_scikit_learns(seed: int, items: int, cutoff: int) -> None:
    scores, basket = a_basket_and_scores(seed, items, decimals=15)  # no ties: scikit-learn averages over them
    truth = relevant(basket, items)
    found = metrics.hits(top_columns(scores[None, :], cutoff), truth)
    expected = sk.ndcg_score(truth.astype(np.float64), scores[None, :], k=cutoff)
    assert metrics.ndcg_at(found, [basket.size], cutoff)[0] == pytest.approx(expected)


def test_recall_divides_by_the_whole_basket_and_the_ideal_stops_at_the_cutoff() -> None:
    found = np.ones((1, 10), dtype=bool)
    assert metrics.recall_at(found, [40], 10)[0] == 0.25
    assert metrics.ndcg_at(found, [40], 10)[0] == pytest.approx(1.0)
    assert metrics.ndcg_at(found, [10], 10)[0] == pytest.approx(1.0)


def test_a_short_list_counts_its_empty_places_as_misses() -> None:
    everything = np.ones((1, 9), dtype=bool)
    assert metrics.hits(np.array([[7, -1, -1]]), everything).tolist() == [[True, False, False]]


@given(seeds, st.integers(1, 4), st.integers(2, 60))
def test_auc_is_scikit_learns(seed: int, decimals: int, pairs: int) -> None:
    random = np.random.default_rng(seed)
    scores = np.round(random.random(pairs) * 0.999, decimals)
    labels = (random.random(pairs) < scores).astype(np.int64)
    labels[:2] = [0, 1]
    assert metrics.auc(*binned(scores, labels)[:2]) == pytest.approx(sk.roc_auc_score(labels, scores))


@given(seeds, st.integers(1, 12))
def test_calibration_error_is_that_of_sorted_deciles(seed: int, per_decile: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.permutation(np.linspace(0.01, 0.99, 10 * per_decile))  # distinct: deciles are exact
    labels = (random.random(scores.size) < 0.5).astype(np.int64)
    order = np.argsort(scores)
    deciles = [order[d * per_decile : (d + 1) * per_decile] for d in range(10)]
    expected = np.mean([abs(scores[d].mean() - labels[d].mean()) for d in deciles])
    assert metrics.calibration_error(*binned(scores, labels), 10) == pytest.approx(expected)


def test_equal_scores_share_one_calibration_bin() -> None:
    scores, labels = np.full(100, 0.25), np.repeat([1, 0], [25, 75])
    assert metrics.calibration_error(*binned(scores, labels), 10) == pytest.approx(0.0)


@given(seed=seeds, pairs=st.integers(1, 300))
def test_each_pair_counts_in_the_octave_of_its_score(seed: int, pairs: int) -> None:
    random = np.random.default_rng(seed)
    scores = 2.0 ** -random.uniform(0.01, 12, pairs)
    labels = (random.random(pairs) < scores).astype(np.int64)
    found = metrics.by_octave(*binned(scores, labels))
    for octave, values in found.items():
        inside = (scores >= 2.0**octave) & (scores < 2.0 ** (octave + 1))
        assert values["pairs"] == inside.sum()
        np.testing.assert_allclose(values["mean_score"], scores[inside].mean())
        np.testing.assert_allclose(values["base_rate"], labels[inside].mean())
    assert sum(values["pairs"] for values in found.values()) == pairs


def test_without_positives_there_is_no_auc() -> None:
    assert np.isnan(metrics.auc(*binned(np.array([0.1, 0.2]), np.array([0, 0]))[:2]))
