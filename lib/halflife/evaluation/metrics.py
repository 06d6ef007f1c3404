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


def hits(ranked: ArrayLike, truth: ArrayLike) -> NDArray[np.bool_]:
    """Which of one user's ranked items (k,) are in the basket `truth` (m,); a rank below 0 is an empty place."""
    places = np.asarray(ranked, dtype=np.int64)
    return np.isin(places, np.asarray(truth, dtype=np.int64)) & (places >= 0)


def recall_at(found: NDArray[np.bool_], basket_sizes: ArrayLike, cutoff: int) -> Floats:
    """Share of each basket that the first `cutoff` places name. Shapes: found (B, k), sizes (B,) give (B,).

    Divides by the whole basket, also where it is larger than the cut-off.
    """
    share: Floats = found[:, :cutoff].sum(axis=1) / np.asarray(basket_sizes, dtype=np.float64)
    return share


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


def constant_metrics(rate: float, pairs: float, positives: float, quantiles: int) -> dict[str, float]:
    """The same metrics for one probability `rate` given to every pair: what knowing nothing of a pair costs."""
    clipped = min(max(rate, PROBABILITY_FLOOR), 1.0 - PROBABILITY_FLOOR)
    loss = -positives * np.log(clipped) - (pairs - positives) * np.log1p(-clipped)
    bins = ScoreBins(
        pairs=np.array([pairs]),
        positives=np.array([positives]),
        score_sum=np.array([rate * pairs]),
        squared_sum=np.array([rate * rate * pairs]),
        positive_score_sum=np.array([rate * positives]),
        log_loss_sum=np.array([loss]),
    )
    return probability_metrics(bins, quantiles)


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
