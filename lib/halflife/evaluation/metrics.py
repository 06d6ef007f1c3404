"""The metrics' arithmetic, in NumPy: ranking metrics of a block of users, probability metrics of binned pairs.

Nothing here knows of Spark. The rankings are full (no sampled negatives) and totally ordered: equal scores
rank by column, and the caller puts the columns in the order in which ties shall fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# The published score is a float32, whose smallest step below one this is: no published probability can say
# more, so the log loss takes none to be nearer to 0 or 1. scikit-learn clips float32 predictions alike.
PROBABILITY_FLOOR: Final = float(np.finfo(np.float32).eps)


def hits(ranked: Integers, relevant: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which ranked columns (B, k) are relevant (B, n); a column below 0 is an empty place."""
    found: NDArray[np.bool_] = np.take_along_axis(relevant, np.maximum(ranked, 0), axis=1) & (ranked >= 0)
    return found


def recall_at(found: NDArray[np.bool_], basket_sizes: ArrayLike, cutoff: int) -> Floats:
    """Share of each basket that the first `cutoff` places name. Shapes: found (B, k), sizes (B,) give (B,).

    Divides by the whole basket, also where it is larger than the cut-off.
    """
    share: Floats = found[:, :cutoff].sum(axis=1) / np.asarray(basket_sizes, dtype=np.float64)
    return share


def precision_at(found: NDArray[np.bool_], cutoff: int) -> Floats:
    """Share of the first `cutoff` places that are in the basket: found (B, k) gives (B,)."""
    share: Floats = found[:, :cutoff].sum(axis=1) / cutoff
    return share


def average_precision_at(found: NDArray[np.bool_], basket_sizes: ArrayLike, cutoff: int) -> Floats:
    """Precision at each hit among the first `cutoff` places, added up, over the whole basket: (B, k), (B,) give (B,).

    Its mean is MAP as in Microsoft Recommenders; others divide by min(cutoff, basket size).
    """
    shown = found[:, :cutoff]
    precision = np.cumsum(shown, axis=1) / np.arange(1, shown.shape[1] + 1)
    average: Floats = (precision * shown).sum(axis=1) / np.asarray(basket_sizes, dtype=np.float64)
    return average


def ndcg_at(found: NDArray[np.bool_], basket_sizes: ArrayLike, cutoff: int) -> Floats:
    """Normalised discounted cumulative gain of a binary relevance (Järvelin and Kekäläinen, 2002).

    Shapes: found (B, k), sizes (B,) give (B,). The ideal has min(cutoff, basket size) hits at the top.
    """
    discounts = 1.0 / np.log2(np.arange(2, cutoff + 2))
    shown = found[:, :cutoff]
    gain = shown @ discounts[: shown.shape[1]]
    ideal = np.cumsum(discounts)[np.minimum(np.asarray(basket_sizes), cutoff) - 1]
    normalised: Floats = gain / ideal
    return normalised


def hit_rate_at(found: NDArray[np.bool_], cutoff: int) -> Floats:
    """Whether the first `cutoff` places name anything of the basket: found (B, k) gives (B,) of 0 and 1."""
    hit: Floats = found[:, :cutoff].any(axis=1).astype(np.float64)
    return hit


def mrr_at(found: NDArray[np.bool_], cutoff: int) -> Floats:
    """One over the first place that is in the basket, 0 where none of the first `cutoff` is: (B, k) gives (B,)."""
    shown = found[:, :cutoff]
    first: Floats = np.where(shown.any(axis=1), 1.0 / (shown.argmax(axis=1) + 1), 0.0)
    return first


@dataclass(frozen=True)
class ScoreBins:
    """Pairs counted by narrow bins of their predicted probability, lowest bin first; all arrays (bins,).

    The sums make log loss, Brier score and means exact. Only what needs an order within a bin (AUC, the edges
    of the quantile bins) is approximate, by less than the bin's width.
    """

    pairs: Floats
    positives: Floats
    score_sum: Floats
    squared_sum: Floats
    positive_score_sum: Floats
    log_loss_sum: Floats


def probability_metrics(bins: ScoreBins, quantiles: int) -> dict[str, float]:
    """Log loss, Brier score, calibration error over `quantiles` bins, AUC, mean score and base rate.

    Raises ValueError where no pair was counted.
    """
    pairs = bins.pairs.sum()
    if pairs == 0:
        raise ValueError("no pair was counted: there is nothing to evaluate")
    squared_error = bins.squared_sum - 2.0 * bins.positive_score_sum + bins.positives
    return {
        "log_loss": float(bins.log_loss_sum.sum() / pairs),
        "brier": float(squared_error.sum() / pairs),
        "calibration_error": calibration_error(bins, quantiles),
        "auc": auc(bins),
        "mean_score": float(bins.score_sum.sum() / pairs),
        "base_rate": float(bins.positives.sum() / pairs),
    }


@dataclass(frozen=True)
class StrengthSums:
    """Sums over all pairs of a forecast of interest strength and of what was observed, 0 where nothing was."""

    pairs: float
    expected: float
    observed: float
    expected_squared: float
    observed_squared: float
    product: float
    absolute_error: float


def strength_metrics(sums: StrengthSums) -> dict[str, float]:
    """MSE, MAE and R2 of interest strength over all pairs; R2 is NaN where all pairs were observed alike."""
    squared_error = sums.expected_squared - 2.0 * sums.product + sums.observed_squared
    variation = sums.observed_squared - sums.observed**2 / sums.pairs
    return {
        "strength_mse": squared_error / sums.pairs,
        "strength_mae": sums.absolute_error / sums.pairs,
        "strength_r2": 1.0 - squared_error / variation if variation > 0 else float("nan"),
    }


def auc(bins: ScoreBins) -> float:
    """Area under the ROC curve (Mann-Whitney): a positive pair's chance to score above a negative one.

    Pairs of one bin count as tied. NaN where there are no positives or no negatives.
    """
    negatives = bins.pairs - bins.positives
    below = np.cumsum(negatives) - negatives
    comparisons = bins.positives.sum() * negatives.sum()
    if comparisons == 0:
        return float("nan")
    return float((bins.positives * (below + 0.5 * negatives)).sum() / comparisons)


def calibration_error(bins: ScoreBins, quantiles: int) -> float:
    """Expected calibration error over bins of nearly equal count (Naeini et al., 2015).

    Mean over the pairs of |mean score - rate of positives| of the pair's quantile bin. A score bin is never
    split, so that equal scores stay together.
    """
    middle = np.cumsum(bins.pairs) - 0.5 * bins.pairs
    quantile = np.minimum((quantiles * middle / bins.pairs.sum()).astype(np.int64), quantiles - 1)
    gap = np.bincount(quantile, weights=bins.score_sum - bins.positives)
    return float(np.abs(gap).sum() / bins.pairs.sum())
