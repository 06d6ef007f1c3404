"""Probabilities and strengths of all pairs as metrics, with intervals over users and paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from halflife.config import EvaluateConfig
from halflife.evaluation import bootstrap, metrics
from halflife.evaluation.bootstrap import Floats
from halflife.evaluation.tally import ALL_BINS, BINS, COUNTS, EVERYONE, SUMS, WIDE_BINS


@dataclass(frozen=True)
class Judgement:
    """One model's metrics over the pairs of a segment: of each its value and what the replicates (R,) have."""

    values: Mapping[str, float]
    replicates: Mapping[str, Floats]

    def minus(self, other: Judgement) -> Judgement:
        """The paired difference of what both have: both drew the same users."""
        return Judgement(
            {name: self.values[name] - other.values[name] for name in sorted({*self.values} & {*other.values})},
            {name: self.replicates[name] - other.replicates[name] for name in {*self.replicates} & {*other.replicates}},
        )

    def interval(self, metric: str) -> tuple[float, float, float] | None:
        """Standard error and 95 % interval, None where no replicate has a value."""
        drawn = self.replicates[metric]
        drawn = drawn[np.isfinite(drawn)]
        if drawn.size < 2:
            return None
        low, high = np.quantile(drawn, [bootstrap.LOW, bootstrap.HIGH])
        return float(drawn.std(ddof=1)), float(low), float(high)


def judge(counted: pd.DataFrame, options: EvaluateConfig) -> Judgement | None:
    """Metrics of a tally (columns KEY and SUMS), None without pairs.

    The value of AUC and calibration error is that of the narrow bins. Their replicates have wide ones, and are moved by
    what that makes of the value.
    """
    buckets = options.bootstrap_buckets
    sums = np.zeros((buckets, len(SUMS)))
    of_bucket = counted[counted["bin"] == ALL_BINS]
    sums[of_bucket["bucket"]] = of_bucket[list(SUMS)]
    totals = dict(zip(SUMS, sums.sum(axis=0), strict=True))
    if not totals["pairs"] > 0:
        return None
    counts = bootstrap.drawn(options.bootstrap_replicates, buckets)
    values = {name: float(value) for name, value in metrics.of_sums(totals).items()}
    replicates = metrics.of_sums(dict(zip(SUMS, (counts @ sums).T, strict=True)))

    narrow = _bins(counted[counted["bucket"] == EVERYONE], 1, BINS)[:, 0]
    in_bins = counted[(counted["bucket"] != EVERYONE) & (counted["bin"] != ALL_BINS)]
    by_bucket = _bins(in_bins, buckets, WIDE_BINS)
    wide, drawn = by_bucket.sum(axis=1), np.einsum("rb,sbk->srk", counts, by_bucket, optimize=True)
    values["auc"] = float(metrics.auc(narrow[0], narrow[1]))
    replicates["auc"] = metrics.auc(drawn[0], drawn[1]) - metrics.auc(wide[0], wide[1]) + values["auc"]

    def calibration_error(bins: Floats) -> float:
        return metrics.calibration_error(bins[0], bins[1], bins[2], options.calibration_bins)

    values["calibration_error"] = calibration_error(narrow)
    errors = np.array([calibration_error(drawn[:, row]) for row in range(drawn.shape[1])])
    replicates["calibration_error"] = errors - calibration_error(wide) + values["calibration_error"]
    known = {name for name, value in values.items() if not np.isnan(value)}
    return Judgement({name: values[name] for name in sorted(known)}, {name: replicates[name] for name in known})


def _bins(counted: pd.DataFrame, buckets: int, bins: int) -> Floats:
    """The COUNTS by bucket and bin: (counts, buckets, bins)."""
    found = np.zeros((len(COUNTS), buckets, bins))
    bucket = np.maximum(counted["bucket"].to_numpy(), 0)
    found[:, bucket, counted["bin"]] = counted[list(COUNTS)].to_numpy().T
    return found
