"""The metrics' arithmetic, in NumPy: ranking metrics of a block of users, probability metrics of binned pairs.

Nothing here knows of Spark. The rankings are full (no sampled negatives) and totally ordered: equal scores
rank by column, and the caller puts the columns in the order in which ties shall fall.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def of_sums(sums: Mapping[str, Floats]) -> dict[str, Floats]:
    """What sums over pairs (`tally.SUMS`, each of any one shape) make: log loss, Brier score, mean score and base rate
    of the probabilities; MSE, MAE and R2 of the strengths. What has nothing to divide by is NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = sums["pairs"]
        strength_error = sums["expected_squared"] - 2.0 * sums["product"] + sums["observed_squared"]
        # Where nothing came true, a difference of tallies leaves a rest of rounding, not 0, to divide by.
        came_true = sums["positives"] > 0
        variation = sums["observed_squared"] - sums["observed"] ** 2 / pairs
        return {
            "log_loss": sums["log_loss_sum"] / pairs,
            "brier": (sums["squared_sum"] - 2.0 * sums["positive_score_sum"] + sums["positives"]) / pairs,
            "mean_score": sums["score_sum"] / pairs,
            "base_rate": sums["positives"] / pairs,
            "strength_mse": strength_error / pairs,
            "strength_mae": sums["absolute_error"] / pairs,
            "strength_r2": np.where(came_true & (variation > 0), 1.0 - strength_error / variation, np.nan),
        }


def by_octave(pairs: Floats, positives: Floats, score_sum: Floats) -> dict[int, dict[str, float]]:
    """What a calibration plot shows, from pairs by bin of score (bins,).

    Of the scores from 2^k to 2^(k+1), by k: how many pairs there are, their mean score, and the rate of positives. The
    lowest k, that of PROBABILITY_FLOOR, has all scores below as well.
    """
    filled = pairs > 0
    pairs, positives, score_sum = pairs[filled], positives[filled], score_sum[filled]
    octave = np.floor(np.log2(np.maximum(score_sum / pairs, PROBABILITY_FLOOR))).astype(np.int64)
    found = {}
    for each in np.unique(octave).tolist():
        inside = octave == each
        count = float(pairs[inside].sum())
        rates = {
            "mean_score": float(score_sum[inside].sum()) / count,
            "base_rate": float(positives[inside].sum()) / count,
        }
        found[each] = {"pairs": count, **rates}
    return found


def auc(pairs: Floats, positives: Floats) -> Floats:
    """Area under the ROC curve (Mann-Whitney) of pairs by bin, lowest score first: (..., bins) give (...).

    A positive pair's chance to score above a negative one; pairs of one bin count as tied. NaN where there are no
    positives or no negatives.
    """
    negatives = pairs - positives
    below = np.cumsum(negatives, axis=-1) - negatives
    with np.errstate(invalid="ignore", divide="ignore"):
        wins = (positives * (below + 0.5 * negatives)).sum(axis=-1)
        area: Floats = wins / (positives.sum(axis=-1) * negatives.sum(axis=-1))
    return area


def calibration_error(pairs: Floats, positives: Floats, score_sum: Floats, quantiles: int) -> float:
    """Expected calibration error over bins of nearly equal count (Naeini et al., 2015), from narrow ones (bins,).

    Mean over the pairs of |mean score - rate of positives| of the pair's quantile bin. A narrow bin is never split, so
    that equal scores stay together. NaN without pairs.
    """
    if not pairs.sum() > 0:
        return float("nan")
    middle = np.cumsum(pairs) - 0.5 * pairs
    quantile = np.clip((quantiles * middle / pairs.sum()).astype(np.int64), 0, quantiles - 1)
    gap = np.bincount(quantile, weights=score_sum - positives)
    return float(np.abs(gap).sum() / pairs.sum())
