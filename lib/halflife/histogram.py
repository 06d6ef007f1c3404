"""How a night's scores are distributed: counted while they are written, eight bins to a doubling.

A bin is the exponent of a float32 with the first three bits of its mantissa, so finding it is one shift of the bits:
1 ns a score, where all the rest of the night takes 60 (one core). Histograms add up, whatever the files and tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

SHIFT: Final = 20  # of a float32's bits those behind the third of the mantissa


def _bin(score: float) -> int:
    return int(np.float32(score).view(np.int32)) >> SHIFT


# The first bin holds all that is less than a published score can tell from zero, the last one ends at one.
LOWEST: Final = 2.0**-24
BEFORE: Final = _bin(LOWEST) - 1
BINS: Final = _bin(1.0) - BEFORE
# All that the shifted bits of a float32 can be, negative numbers from the middle on.
EVERY: Final = 1 << (32 - SHIFT)
# np.bincount widens what it counts: so many stay in the cache.
CHUNK: Final = 16_384

# What a manifest holds beside the counts.
QUANTILES: Final = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999)


def count(scores: NDArray[np.float32]) -> Counts:
    """How many scores, of any shape and in [0, 1), each bin has: (BINS,). What is no score is left to the audit."""
    every = np.zeros(EVERY, dtype=np.int64)
    bits = np.ascontiguousarray(scores, dtype=np.float32).ravel().view(np.uint32)
    for begin in range(0, bits.size, CHUNK):
        every += np.bincount(bits[begin : begin + CHUNK] >> SHIFT, minlength=EVERY)
    counts = every[BEFORE : BEFORE + BINS].copy()
    counts[0] += every[:BEFORE].sum() + every[EVERY // 2 :].sum()
    return counts


def described(counts: Counts) -> dict[str, Any]:
    """For a manifest, from the first occupied bin to the last: `counts` (n,) of the scores from `edges[k]` up to
    `edges[k + 1]`, edges (n + 1,) ascending; and `quantiles` by name, p50 say. All are empty without scores."""
    occupied = np.flatnonzero(counts)
    if not occupied.size:
        return {"edges": [], "counts": [], "quantiles": {}}
    first, behind = int(occupied[0]), int(occupied[-1]) + 1
    every = (np.arange(BEFORE, BEFORE + BINS + 1, dtype=np.int32) << SHIFT).view(np.float32)
    edges = np.where(every < LOWEST, 0.0, every)[first : behind + 1].tolist()
    found = {"edges": edges, "counts": counts[first:behind].tolist()}
    names = [f"p{100 * share:g}" for share in QUANTILES]
    return {**found, "quantiles": dict(zip(names, quantiles(found, QUANTILES), strict=True))}


def quantiles(histogram: Mapping[str, Sequence[float]], shares: Sequence[float]) -> list[float]:
    """Scores below which the given shares lie: right to the 9 to 12.5 % that a bin spans."""
    below = np.concatenate([[0], np.cumsum(histogram["counts"])])
    values: list[float] = np.interp(np.asarray(shares) * below[-1], below, histogram["edges"]).tolist()
    return values
