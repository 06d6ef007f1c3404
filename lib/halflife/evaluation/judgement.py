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
    """One model's metrics over the pairs of a segment: of each its value and, where it has an interval, what the
    replicates (R,) have."""

    values: Mapping[str, float]
    replicates: Mapping[str, Floats]

    def minus(self, other: Judgement) -> Judgement:
        """The paired difference of what both have: both drew the same users."""
        return Judgement(
            {name: self.values[name] - other.values[name] for name in sorted({*self.values} & {*other.values})},
            {name: self.replicates[name] - other.replicates[name] for name in {*self.replicates} & {*other.replicates}},
        )

    def interval(self, metric: str) -> tuple[float, float, float] | None:
        """Standard error and 95 % interval, None where there are no two replicates with a value."""
        drawn = self.replicates.get(metric, np.empty(0))
        drawn = drawn[np.isfinite(drawn)]
        if drawn.size < 2:
            return None
        low, high = np.quantile(drawn, [bootstrap.LOW, bootstrap.HIGH])
        return float(drawn.std(ddof=1)), float(low), float(high)


def judge(counted: pd.DataFrame, options: EvaluateConfig) -> Judgement | None:
    """Metrics of a tally (columns KEY and SUMS), None without pairs.

    The value of AUC is that of the narrow bins. Its replicates have wide ones, and are moved by what that makes of the
    value. The calibration error has no interval: as a sum of absolute noise it is larger in the replicates than it is.
    Nor has anything where all pairs are of one bucket: its replicates are equal.
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

    pairs, positives, score_sum = _bins(counted[counted["bucket"] == EVERYONE], 1, BINS)[:, 0]
    in_bins = counted[(counted["bucket"] != EVERYONE) & (counted["bin"] != ALL_BINS)]
    by_bucket = _bins(in_bins, buckets, WIDE_BINS)
    wide, drawn = by_bucket.sum(axis=1), np.einsum("rb,sbk->srk", counts, by_bucket[:2], optimize=True)
    values["auc"] = float(metrics.auc(pairs, positives))
    replicates["auc"] = metrics.auc(drawn[0], drawn[1]) - metrics.auc(wide[0], wide[1]) + values["auc"]
    values["pairs"] = float(totals["pairs"])
    values["calibration_error"] = metrics.calibration_error(pairs, positives, score_sum, options.calibration_bins)
    known = {name: values[name] for name in sorted(values) if not np.isnan(values[name])}
    alone = (of_bucket["pairs"] > 0).sum() < 2
    return Judgement(known, {} if alone else {name: replicates[name] for name in replicates.keys() & known.keys()})


def _bins(counted: pd.DataFrame, buckets: int, bins: int) -> Floats:
    """The COUNTS by bucket and bin: (counts, buckets, bins)."""
    found = np.zeros((len(COUNTS), buckets, bins))
    bucket = np.maximum(counted["bucket"].to_numpy(), 0)
    found[:, bucket, counted["bin"]] = counted[list(COUNTS)].to_numpy().T
    return found
