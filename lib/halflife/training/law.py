"""The single half-life that a model has to beat, tuned before the validation days and judged on them.

It ranks a user's items by decayed strength, and all others behind them by popularity. For the likelihood it expects
weight * decayed strength + floor * popularity, the fairest form of the law that has no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from halflife.decay import decay_integral
from halflife.model.losses import LEAST_STRENGTH
from halflife.training.batches import batch_of
from halflife.training.examples import History
from halflife.training.validation import CUTOFF, ValidationUsers, ndcg_and_recall

Floats = NDArray[np.float64]
# Adds an array up over all ranks.
Summed = Callable[[Floats], Floats]

USERS_PER_CHUNK: Final = 64
# Of expectation-maximisation with two unknowns: the likelihood no longer moves in its sixth digit.
ROUNDS: Final = 100


@dataclass(frozen=True)
class Law:
    """The tuned law, and its figures on the validation days."""

    half_life_days: float
    weight: float
    floor: float
    loss: float
    ndcg: float


def tuned(
    tuning: ValidationUsers,
    validation: ValidationUsers,
    popularity: tuple[Floats, Floats],
    half_lives_days: Sequence[float],
    horizon_days: float,
    summed: Summed,
) -> Law:
    """Tune the half-life by NDCG and its two weights by likelihood on `tuning`, and judge it on `validation`.

    `popularity` is each item's expected strength of a user within the horizon, (I,), before the tuning days and before
    the validation days. Where the log is too short for tuning days of its own, the law is tuned on the validation days
    themselves: in its favour, so that no network goes live for having beaten a law that nobody tuned.
    """
    before, now = popularity
    if not summed(np.array([len(tuning.midnights), len(tuning.sessions)], dtype=np.float64)).all():
        tuning, before = validation, now
    found = summed(_ndcg_sums(tuning, half_lives_days, before, horizon_days))
    best = float(half_lives_days[int(np.argmax(found[:-1]))])
    weight, floor = _weights(_Midnights.of(tuning, best, before, horizon_days), summed)
    ndcg, sessions = summed(_ndcg_sums(validation, [best], now, horizon_days))
    loss, midnights = summed(_Midnights.of(validation, best, now, horizon_days).loss(weight, floor))
    return Law(best, weight, floor, loss / max(midnights, 1.0), ndcg / max(sessions, 1.0))


@dataclass(frozen=True)
class _Midnights:
    """What the likelihood needs: targets' strength, memory and popularity (T,); sums of both over all pairs; users."""

    strength: Floats
    memory: Floats
    popularity: Floats
    all_memory: float
    all_popularity: float
    users: int

    @staticmethod
    def of(users: ValidationUsers, half_life_days: float, popularity: Floats, horizon_days: float) -> _Midnights:
        """The terms of one rank's users at a half-life."""
        parts: list[NDArray[Any]] = [np.empty((3, 0))]
        total = 0.0
        for batch, (memory,) in _remembered(users.midnights, [half_life_days], horizon_days):
            targets = batch.targets
            of_targets = np.append(memory, 0.0)[targets.pair]
            parts.append(np.stack([targets.strength, of_targets, popularity[targets.item]]))
            total += float(memory.sum())
        count = len(users.midnights)
        strength, of_targets, popular = np.concatenate(parts, axis=1)
        return _Midnights(strength, of_targets, popular, total, count * float(popularity.sum()), count)

    def shares(self, weight: float, floor: float) -> Floats:
        """Observed strength that the law puts down to memory and to popularity, and the sums of both."""
        expected = np.maximum(weight * self.memory + floor * self.popularity, LEAST_STRENGTH)
        ratio = self.strength / expected
        return np.array([ratio @ self.memory, ratio @ self.popularity, self.all_memory, self.all_popularity])

    def loss(self, weight: float, floor: float) -> Floats:
        """Negative log-likelihood as the network's, and the number of users: sums."""
        expected = np.maximum(weight * self.memory + floor * self.popularity, LEAST_STRENGTH)
        total = weight * self.all_memory + floor * self.all_popularity
        return np.array([total - self.strength @ np.log(expected), self.users])


def _weights(midnights: _Midnights, summed: Summed) -> tuple[float, float]:
    """The most likely weight and floor: each round shares out what was observed by what was expected."""
    weight = floor = 1.0
    for _ in range(ROUNDS):
        remembered, popular, all_memory, all_popularity = summed(midnights.shares(weight, floor))
        weight *= float(remembered / all_memory) if all_memory > 0 else 1.0
        floor *= float(popular / all_popularity) if all_popularity > 0 else 1.0
    return weight, floor


def _ndcg_sums(
    users: ValidationUsers, half_lives_days: Sequence[float], popularity: Floats, horizon_days: float
) -> Floats:
    """NDCG of the next sessions by half-life, and last their number: sums over one rank's users."""
    popular = np.argsort(-popularity, kind="stable")
    sums = np.zeros(len(half_lives_days) + 1)
    truths = iter([truth for *_, truth in users.sessions])
    for batch, memories in _remembered(
        [(history, cut) for history, cut, _ in users.sessions], half_lives_days, horizon_days
    ):
        for row in range(len(batch.cuts.length)):
            begin, end = np.searchsorted(batch.pairs.cut, [row, row + 1])
            truth, items = next(truths), batch.pairs.item[begin:end]
            found = [_best(items, memory[begin:end], popularity, popular) for memory in memories]
            sums += [*(ndcg_and_recall(ranked, truth)[0] for ranked in found), 1.0]
    return sums


def _best(items: NDArray[Any], memory: Floats, popularity: Floats, popular: NDArray[Any]) -> NDArray[Any]:
    """The best CUTOFF items: those remembered by memory, ties by popularity; then the most popular others."""
    known = memory > 0
    items, memory = items[known], memory[known]
    order = np.lexsort((items, -popularity[items], -memory))[:CUTOFF]
    others = popular[: CUTOFF + len(items)]
    fill = others[~np.isin(others, items)]
    best: NDArray[Any] = np.concatenate([items[order], fill])[:CUTOFF]
    return best


def _remembered(
    cuts: Sequence[tuple[History, float]], half_lives_days: Sequence[float], horizon_days: float
) -> Iterator[tuple[Any, list[Floats]]]:
    """Chunks of users as a batch, and the decayed strength of its pairs over the horizon for each half-life."""
    for begin in range(0, len(cuts), USERS_PER_CHUNK):
        chunk = cuts[begin : begin + USERS_PER_CHUNK]
        # The encoder's part of a batch is not needed here: as short as can be.
        batch = batch_of([user for user, _ in chunk], [np.array([cut]) for _, cut in chunk], 1, horizon_days)
        history, pairs = batch.history, len(batch.pairs.item)
        strength = history.strength[history.term_event]
        memories = []
        for half_life in half_lives_days:
            terms = strength * decay_integral(history.term_age_days, [half_life], horizon_days)[:, 0]
            memories.append(np.maximum(np.bincount(history.term_pair, weights=terms, minlength=pairs), 0.0))
        yield batch, memories
