"""Intervals, segments and the fit of rates: the parts of the evaluation that need no Spark."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize

from halflife.config import AlsConfig, EvaluateConfig, TifuKnnConfig
from halflife.evaluation import bootstrap, contest, rates, segments
from halflife.evaluation.baselines import History
from halflife.evaluation.contest import Setting


def test_an_interval_is_that_of_scipys_bootstrap_where_each_user_has_a_bucket() -> None:
    values = np.random.default_rng(0).exponential(1.0, 400)
    found = bootstrap.means(values[:, None], np.ones(400), replicates=4_000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=4_000, method="percentile", random_state=1)
    assert found.value[0] == pytest.approx(values.mean())
    assert found.standard_error[0] == pytest.approx(values.std(ddof=1) / 20)
    ours, theirs = (found.low[0], found.high[0]), expected.confidence_interval
    assert ours == pytest.approx(theirs, abs=0.15 * found.standard_error[0])


def test_buckets_of_many_users_give_the_same_interval() -> None:
    random = np.random.default_rng(1)
    values, bucket = random.exponential(1.0, 20_000), random.integers(0, 500, 20_000)
    users, sums = np.bincount(bucket).astype(float), np.bincount(bucket, values)
    found = bootstrap.means(sums[:, None], users, replicates=2_000)
    error = values.std(ddof=1) / np.sqrt(20_000)
    assert found.standard_error[0] == pytest.approx(error, rel=0.1)
    assert (found.high[0] - found.low[0]) / (2 * 1.96) == pytest.approx(error, rel=0.1)


def test_a_paired_difference_is_surer_than_the_means_it_is_of() -> None:
    random = np.random.default_rng(2)
    ability = random.normal(0, 1, 300)
    ours, theirs = ability + random.normal(0.05, 0.1, 300), ability + random.normal(0, 0.1, 300)
    users = np.ones(300)
    a, b = (bootstrap.means(values[:, None], users, replicates=1_000) for values in (ours, theirs))
    error = bootstrap.standard_error((ours - theirs)[:, None], users)
    difference = a.minus(b, error)
    assert a.low[0] < b.high[0], "the means' own intervals overlap"
    assert difference.low[0] > 0
    assert difference.standard_error[0] == pytest.approx(np.std(ours - theirs, ddof=1) / np.sqrt(300))


def test_one_user_has_no_interval() -> None:
    found = bootstrap.means(np.array([[1.0], [0.0]]), np.array([1.0, 0.0]), replicates=10)
    assert found.value[0] == 1.0
    assert np.isnan([found.low[0], found.high[0], found.standard_error[0]]).all()


def history(sessions: int, youngest_days: float) -> History:
    return History(np.zeros(sessions, dtype=np.int64), youngest_days + np.arange(sessions)[::-1], np.arange(sessions))


@pytest.mark.parametrize(
    ("sessions", "days", "expected"),
    [
        (0, 0.0, ("user:new",)),
        (1, 6.9, ("all", "history:1", "silence:0-6d")),
        (5, 7.0, ("all", "history:2-5", "silence:7-29d")),
        (6, 90.0, ("all", "history:6-20", "silence:90+d")),
        (101, 89.9, ("all", "history:101+", "silence:30-89d")),
    ],
)
def test_a_user_is_in_the_classes_of_its_history(sessions: int, days: float, expected: tuple[str, ...]) -> None:
    assert segments.of_user(history(sessions, days)) == expected


def test_a_truths_items_are_repeats_or_new_and_of_their_event_types() -> None:
    types, bought = np.array([[1, 3, 0, 2]], dtype=np.int32), np.array([[True, False, True, False]])
    found = {name: np.flatnonzero(flags).tolist() for name, flags in segments.of_items(types, bought, ["buy", "view"])}
    assert found == {"item:repeat": [0], "item:new": [1, 3], "type:buy": [0, 1], "type:view": [1, 3]}
    assert [name for name, _ in segments.of_items(types, bought, ["buy"])] == ["item:repeat", "item:new"]


@settings(max_examples=15, deadline=None)  # an optimiser's time varies
@given(st.integers(0, 2**32 - 1))
def test_the_most_likely_rates_are_those_an_optimiser_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    components = np.stack([random.exponential(1, 400) * (random.random(400) < 0.3), random.random(400), np.ones(400)])
    true = np.array([0.5, 0.1, 0.02])
    came = random.random(400) < -np.expm1(-(true @ components))
    seen, totals = components[:, came].T, components.sum(axis=1)
    found = rates.most_likely(seen, np.ones(len(seen)), totals, np.ones(3))

    def loss(weights: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        return float(weights @ totals - np.log(np.expm1(seen @ weights)).sum())

    best = minimize(loss, true, method="L-BFGS-B", bounds=[(1e-9, None)] * 3)
    assert loss(np.maximum(found, 1e-12)) <= best.fun + 0.05

    constant = rates.most_likely(seen, np.ones(len(seen)), totals, np.array([0.0, 0.0, 1.0]))
    assert -np.expm1(-constant[2]) == pytest.approx(came.mean(), abs=1e-6)


def test_every_setting_of_the_config_has_a_label_of_its_own() -> None:
    options = EvaluateConfig(als=(AlsConfig(), AlsConfig(rank=8)))
    every = contest.settings(options)
    assert len({setting.label for setting in every}) == len(every)
    assert {setting.baseline for setting in every} == set(options.ranked)
    assert Setting("half_life_tuned", 90.0).label == "half_life_90d"
    assert Setting("tifu_knn", TifuKnnConfig()).label == "tifu_knn(7, 0.9, 0.7, 300, 0.7)"
