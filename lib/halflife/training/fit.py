"""The half-life of the classical law that a log is likeliest under."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from halflife.decay import LN2, SECONDS_PER_DAY, Floats
from halflife.model.architecture import LONGEST_DAYS, SHORTEST_DAYS
from halflife.training.examples import History

Indexes = NDArray[np.int64]

# Of expectation-maximisation with two unknowns: the half-life no longer moves in its third digit.
ROUNDS: Final = 60
# Half-lives that are tried at once, from one end to the other, then around the best of them; and when it is enough.
GRID: Final = 9
PRECISION: Final = 2e-3


@dataclass(frozen=True)
class Returns:
    """The events of some users with positive strength, pair by pair in order of time.

    strength, age_days at the end of the log, gap_days since the pair's event before and place in the pair (E,), and the
    number of pairs times days that all events together were waited for.
    """

    strength: Floats
    age_days: Floats
    gap_days: Floats
    place: Indexes
    pair_days: float

    @staticmethod
    def of(histories: Iterable[History], items: int, before_seconds: float) -> Returns:
        """The events before `before_seconds`; each user could have met each of the `items` since the user's first."""
        parts, days = [np.empty((4, 0))], 0.0
        for history in histories:
            known = np.flatnonzero((history.strength > 0) & (history.seconds < before_seconds))
            if len(known):
                parts.append(_of_user(history, known, before_seconds))
                days += items * parts[-1][1].max()
        strength, age, gap, place = np.concatenate(parts, axis=1)
        return Returns(strength, age, gap, place.astype(np.int64), days)

    def memory(self, half_life_days: float) -> Floats:
        """Decayed strength of the pair's earlier events just before each event, (E,)."""
        left, memory = np.exp2(-self.gap_days / half_life_days), np.zeros(len(self.gap_days))
        order = np.argsort(self.place, kind="stable")
        for rows in np.split(order, np.bincount(self.place).cumsum()[:-1])[1:]:
            memory[rows] = left[rows] * (memory[rows - 1] + self.strength[rows - 1])
        return memory

    def log_likelihood(self, half_life_days: float) -> float:
        """Of the rate floor + weight * memory, with the likeliest floor and weight for this half-life."""
        memory, mean_days = self.memory(half_life_days), half_life_days / LN2
        exposure = float(self.strength @ (mean_days * -np.expm1(-self.age_days / mean_days)))
        floor, weight = 0.5 * len(memory) / self.pair_days, 0.5 * len(memory) / exposure
        for _ in range(ROUNDS):
            remembered = weight * memory / (floor + weight * memory)
            floor, weight = (1 - remembered).sum() / self.pair_days, remembered.sum() / exposure
        # Floor and weight share out all events, so that what is expected is their number.
        return float(np.log(floor + weight * memory).sum()) - len(memory)


def fitted_half_life(histories: Iterable[History], items: int, before_seconds: float, start_days: float) -> float:
    """The likeliest half-life of the classical law, in days; `start_days` where no event returns to its item.

    Every pair has a constant rate, and each event adds to it by its strength what then halves: a Hawkes process with
    an exponential kernel, fitted by expectation-maximisation (Veen & Schoenberg, Estimation of Space-Time Branching
    Process Models, JASA 2008) for each half-life of a narrowing grid. Negative events are left out.
    """
    returns = Returns.of(histories, items, before_seconds)
    if not returns.place.any():
        return start_days
    low, high = np.log(SHORTEST_DAYS), np.log(LONGEST_DAYS)
    while high - low > PRECISION:
        grid = np.linspace(low, high, GRID)
        best = int(np.argmax([returns.log_likelihood(days) for days in np.exp(grid)]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    return float(np.exp((low + high) / 2))


def _of_user(history: History, known: Indexes, before_seconds: float) -> Floats:
    """Strength, age, gap and place of one user's events, sorted by item and time: (4, E)."""
    order = known[np.argsort(history.item[known], kind="stable")]
    item, seconds = history.item[order], history.seconds[order]
    first = np.diff(item, prepend=-1) != 0
    number = np.arange(len(order))
    place = number - np.maximum.accumulate(np.where(first, number, 0))
    gap = np.where(first, 0.0, np.diff(seconds, prepend=0.0))
    return np.stack(
        [history.strength[order], (before_seconds - seconds) / SECONDS_PER_DAY, gap / SECONDS_PER_DAY, place]
    )
