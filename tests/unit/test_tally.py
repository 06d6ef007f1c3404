"""Pairs counted by score and by bucket of users, and what is made of the counts: metrics and intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from halflife.config import EvaluateConfig
from halflife.evaluation import bootstrap, rates
from halflife.evaluation.judgement import judge
from halflife.evaluation.metrics import PROBABILITY_FLOOR
from halflife.evaluation.tally import KEY, SUMS, WIDE_BINS, merged, tally, times

OPTIONS = EvaluateConfig(bootstrap_buckets=40, bootstrap_replicates=60)
seeds = st.integers(0, 2**32 - 1)


class Pairs(NamedTuple):
    score: NDArray[np.float64]
    expected: NDArray[np.float64]
    observed: NDArray[np.float64]
    bucket: NDArray[np.int64]

    def where(self, some: NDArray[np.bool_]) -> Pairs:
        return Pairs(*(values[some] for values in self))


def pairs(seed: int, size: int = 200) -> Pairs:
    random = np.random.default_rng(seed)
    score = random.random(size) ** 4 * 0.999
    observed = np.where(random.random(size) < score, random.random(size) + 0.1, 0.0)
    observed[:2] = 0.0, 1.0
    return Pairs(score, -np.log1p(-score), observed, random.integers(0, 40, size))


def values(of: Pairs) -> dict[str, float]:
    found = judge(tally(*of), OPTIONS)
    assert found is not None
    return dict(found.values)


@given(seeds)
def test_metrics_are_scikit_learns(seed: int) -> None:
    of = pairs(seed)
    labels, clipped = of.observed > 0, np.clip(of.score, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    found = values(of)
    assert found.pop("auc") == pytest.approx(sk.roc_auc_score(labels, of.score), abs=2e-3)
    assert 0 <= found.pop("calibration_error") < 1
    assert found.pop("pairs") == of.score.size
    assert found == pytest.approx(
        {
            "log_loss": sk.log_loss(labels, clipped, labels=[0, 1]),
            "brier": sk.brier_score_loss(labels, of.score),
            "mean_score": of.score.mean(),
            "base_rate": labels.mean(),
            "strength_mse": sk.mean_squared_error(of.observed, of.expected),
            "strength_mae": sk.mean_absolute_error(of.observed, of.expected),
            "strength_r2": sk.r2_score(of.observed, of.expected),
        }
    )


@given(seeds, seeds)
def test_parts_add_up_and_can_be_taken_out(seed: int, by: int) -> None:
    of = pairs(seed)
    part = np.random.default_rng(by).random(of.score.size) < 0.5
    first, second, whole = (tally(*of.where(some)) for some in (part, ~part, np.ones_like(part)))
    added, taken = merged(pd.concat([first, second])), merged(pd.concat([whole, times(second, -1.0)]))
    for found, expected in ((added, merged(whole)), (taken[taken["pairs"] > 0.5], merged(first))):
        pd.testing.assert_frame_equal(
            found.reset_index(drop=True)[[*KEY, *SUMS]], expected, check_dtype=False, atol=1e-9
        )


def test_a_replicate_is_what_its_users_have() -> None:
    of = pairs(1, 4_000)
    found, drawn = judge(tally(*of), OPTIONS), bootstrap.drawn(60, 40)
    assert found is not None
    for replicate in (0, 59):
        weights = drawn[replicate][of.bucket]
        labels = of.observed > 0
        expected = {
            "strength_r2": sk.r2_score(of.observed, of.expected, sample_weight=weights),
            "brier": sk.brier_score_loss(labels, of.score, sample_weight=weights),
        }
        auc = sk.roc_auc_score(labels, of.score, sample_weight=weights)
        assert found.replicates["auc"][replicate] == pytest.approx(auc, abs=2e-3)
        assert {name: found.replicates[name][replicate] for name in expected} == pytest.approx(expected)


def test_an_interval_is_about_its_value_and_that_of_a_difference_to_the_same_is_none_wide() -> None:
    of = pairs(2, 4_000)
    found = judge(tally(*of), OPTIONS)
    noisy = judge(tally(*of._replace(score=np.roll(of.score, 1))), OPTIONS)
    assert found is not None
    assert noisy is not None
    for metric, value in found.values.items():
        # A number that is known, and one that is never below zero, so that noise moves the replicates to one side.
        if metric in ("pairs", "calibration_error"):
            assert found.interval(metric) is None
            continue
        error, low, high = found.interval(metric) or (0.0, 0.0, 0.0)
        assert low < value < high
        assert error == pytest.approx((high - low) / 4, rel=0.5)
        assert found.minus(found).interval(metric) == (0.0, 0.0, 0.0)
    low, high = (found.minus(noisy).interval("log_loss") or (0, 0, 0))[1:]
    assert low < high < 0


def test_a_rate_that_is_certain_is_counted_in_its_own_bucket() -> None:
    nothing, buckets = np.zeros(3), np.arange(3)
    certain = rates._probability(np.array([1.0, 0.0, 0.0]), np.array([40.0, 1.0, 1e6]), nothing)
    found = tally(certain, nothing, nothing, buckets)
    assert (certain < 1).all()
    for bucket in buckets:
        of = found[found["bucket"] == bucket]
        assert of.loc[of["bin"] >= 0, "pairs"].sum() == 1
        assert of["bin"].max() < WIDE_BINS


@given(st.lists(st.integers(0, 7)), st.integers(1, 20))
def test_a_worker_counts_all_rows_and_holds_no_more_than_it_was_told_and_a_batch(sizes: list[int], rows: int) -> None:
    every = np.arange(sum(sizes))
    batches = [pd.DataFrame({"x": part}) for part in np.split(every, np.cumsum(sizes))[:-1]]
    found = list(rates._gathered(iter(batches), rows))
    assert [x for part in found for x in part["x"]] == every.tolist()
    assert all(len(part) >= rows for part in found[:-1])
    assert all(len(part) < rows + 7 for part in found)


def test_where_nothing_new_came_true_there_is_no_r2_and_a_difference_goes_without() -> None:
    of = pairs(3)
    of.observed[:] *= np.random.default_rng(0).random(200)
    known = [tally(*of.where(np.arange(200) == place)) for place in np.flatnonzero(of.observed)]
    new = judge(merged(pd.concat([tally(*of), *(times(each, -1.0) for each in known)])), OPTIONS)
    everything = judge(tally(*of), OPTIONS)
    assert new is not None
    assert everything is not None
    assert "strength_r2" in everything.values
    assert new.values.keys() == new.minus(everything).values.keys() == everything.minus(new).values.keys()
    assert not {"strength_r2", "auc"} & new.values.keys()


def test_users_of_one_bucket_have_values_and_no_intervals() -> None:
    of = pairs(4)
    found = judge(tally(*of._replace(bucket=np.full_like(of.bucket, 7))), OPTIONS)
    assert found is not None
    assert found.values == pytest.approx(values(of))
    assert {metric for metric in found.values if found.interval(metric)} == set()
    odd = np.arange(200) % 2
    both = of._replace(bucket=odd)
    one = judge(merged(pd.concat([tally(*both), times(tally(*both.where(odd == 1)), -1.0)])), OPTIONS)
    assert one is not None
    assert one.interval("brier") is None


def test_without_pairs_there_is_nothing_to_judge() -> None:
    nothing = np.zeros(0)
    assert judge(tally(nothing, nothing, nothing, nothing.astype(np.int64)), OPTIONS) is None
