"""Pairs counted by the probability and the strength that were foretold for them: what every metric of them is made of.

A tally is a table, so that tallies of parts add up. Pairs are counted in narrow bins of their score, for what needs an
order (AUC, calibration), and by bucket of users: sums, and counts in wide bins, which the bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halflife.evaluation.metrics import PROBABILITY_FLOOR

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Bins are equal steps of the fourth root of the score: 0.12 % of a score of 1e-4, 0.02 % of one of 0.1.
BINS: Final = 32_768
WIDE_BINS: Final = 256

COUNTS: Final = ("pairs", "positives", "score_sum")
SUMS: Final = (
    *COUNTS,
    "squared_sum",
    "positive_score_sum",
    "log_loss_sum",
    "expected",
    "observed",
    "expected_squared",
    "observed_squared",
    "product",
    "absolute_error",
)
# The bucket of rows that count everyone in narrow bins, and the bin of rows that hold a bucket's sums.
EVERYONE: Final = -1
ALL_BINS: Final = -1
KEY: Final = ("bucket", "bin")


def tally(score: Floats, expected: Floats, observed: Floats, bucket: Integers) -> pd.DataFrame:
    """Pairs (n,) by their score in [0, 1), the strength expected, and that observed: columns KEY and SUMS.

    What came true is what was observed above 0. `bucket` (n,) is of the pair's user; equal ones should lie together.
    """
    narrow = (np.sqrt(np.sqrt(score)) * BINS).astype(np.int64)
    came_true = np.flatnonzero(observed > 0)
    wide = narrow // (BINS // WIDE_BINS)
    return pd.concat(
        [
            _binned(np.full(1, EVERYONE), BINS, narrow, score, came_true),
            _binned(np.arange(bucket.max(initial=0) + 1), WIDE_BINS, bucket * WIDE_BINS + wide, score, came_true),
            _summed(score, expected, observed, bucket, came_true),
        ],
        ignore_index=True,
    )


def _binned(buckets: Integers, bins: int, key: Integers, score: Floats, came_true: Integers) -> pd.DataFrame:
    """The COUNTS of each occupied bin of some buckets; `key` (n,) is the bin, counted on from bucket to bucket."""
    size = buckets.size * bins
    pairs = np.bincount(key, minlength=size)
    occupied = np.flatnonzero(pairs)
    columns = {
        "bucket": buckets[occupied // bins],
        "bin": occupied % bins,
        "pairs": pairs[occupied],
        "positives": np.bincount(key[came_true], minlength=size)[occupied],
        "score_sum": np.bincount(key, weights=score, minlength=size)[occupied],
    }
    return pd.DataFrame(columns).reindex(columns=[*KEY, *SUMS], fill_value=0.0)


def _summed(score: Floats, expected: Floats, observed: Floats, bucket: Integers, came_true: Integers) -> pd.DataFrame:
    """The SUMS of each bucket; but for the few pairs with an outcome, all terms are those of none."""
    clipped = np.clip(score, PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
    loss = -np.log1p(-clipped)
    loss[came_true] = -np.log(clipped[came_true])
    dense = {
        "pairs": np.ones_like(score),
        "score_sum": score,
        "squared_sum": score * score,
        "log_loss_sum": loss,
        "expected": expected,
        "expected_squared": expected * expected,
        "absolute_error": np.abs(expected - observed),
    }
    some = np.flatnonzero(observed)
    few = {
        "positives": (came_true, np.ones(came_true.size)),
        "positive_score_sum": (came_true, score[came_true]),
        "observed": (some, observed[some]),
        "observed_squared": (some, observed[some] ** 2),
        "product": (some, observed[some] * expected[some]),
    }
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    size = int(bucket.max(initial=0)) + 1

    def by_bucket(rows: Integers, values: Floats) -> Floats:
        return np.bincount(bucket[rows], weights=values, minlength=size).astype(np.float64)

    sums = {name: by_bucket(starts, np.add.reduceat(values, starts)) for name, values in dense.items()}
    sums |= {name: by_bucket(rows, values) for name, (rows, values) in few.items()}
    occupied = np.flatnonzero(sums["pairs"])
    return pd.DataFrame({"bucket": occupied, "bin": ALL_BINS, **{name: sums[name][occupied] for name in SUMS}})


def merged(parts: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Tallies of parts, added up."""
    return parts.groupby([*by, *KEY], as_index=False, sort=True)[list(SUMS)].sum()


def times(counted: pd.DataFrame, factor: float) -> pd.DataFrame:
    """A tally whose pairs count `factor` times each; -1 takes them out."""
    scaled = counted.copy()
    scaled[list(SUMS)] *= factor
    return scaled
