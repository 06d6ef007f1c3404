"""Half-lives of a user's own, out of those that all users share."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from halflife.decay import Floats

# log2, of two neighbours: half-lives are learned, so they may meet, and change places.
LEAST_STEP: Final = 1e-3


def stretched(jumps: Floats, stretch: NDArray[Any], half_lives_days: Floats) -> Floats:
    """Jumps (n, K) of users whose half-lives are 2^stretch (n,) times as long, in channels that all users share.

    What a channel gets goes to the two around h_k 2^stretch, the nearer one on the logarithmic scale getting more, and
    to the last one where the scale ends. So the rate at once is the same, and memory is added up, decayed and read as
    without a stretch (DESIGN properties 1 to 5). A factor for each channel, exp(stretch tilt_k), agreed less with the
    truth: see `training.stretch.Stretches`.
    """
    logs, rho = np.log2(half_lives_days), np.asarray(stretch, dtype=np.float64)[:, None]
    order = np.argsort(logs, kind="stable")
    scale = logs[order]
    steps = np.maximum(np.diff(scale), LEAST_STEP)
    found = np.zeros_like(jumps)
    for channel, log in enumerate(logs):  # of 1 to 5 or so: all at once would take K times the memory
        passed = np.clip((log + rho - scale[:-1]) / steps, 0.0, 1.0)
        shares = -np.diff(passed, axis=1, prepend=1.0, append=0.0)
        found[:, order] += jumps[:, channel, None] * shares
    return found
