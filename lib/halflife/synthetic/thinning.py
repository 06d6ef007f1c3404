"""What negative events leave: the candidates of `halflife.synthetic.process` thinned in order of time (Ogata, 1981)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halflife.decay import Floats
from halflife.synthetic.process import REVIVAL, Events, Integers, Process

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Walked:
    """What came of N candidates.

    happened (N,); silence_days (N,) since the pair's event before, inf for its first; retained_share (N,) of the pair's
    positive memory after that silence.
    """

    happened: Flags
    silence_days: Floats
    retained_share: Floats

    @property
    def revived(self) -> Flags:
        """The events that revive their pair by the definition of `halflife.config.ScoreConfig`, (N,)."""
        faded = self.retained_share < REVIVAL.revival_retained_share
        return self.happened & faded & (self.silence_days >= REVIVAL.revival_silence_days)


def walk(process: Process, events: Events) -> Walked:
    """Walk all pairs side by side: the first candidate of each, then the second of each, and so on.

    A candidate happens if the one that led to it did, and with the chance that negative events leave it:
    max(affinity + memory, 0) / (affinity + positive memory). Planted ones always happen.
    """
    domain, people = process.domain, process.people
    luck, jumps = process.chance.random(len(events)), process.jumps(events)
    affinity = people.affinity(events["user"], events["item"])
    pairs, pair = np.unique(process.pairs(events), return_inverse=True)
    memory = np.zeros((len(pairs), len(domain.types)))  # (P, T), signed
    last = np.full(len(pairs), -np.inf)
    walked = Walked(np.zeros(len(events), np.bool_), np.zeros(len(events)), np.zeros(len(events)))
    for rows in _rounds(pair, events["day"]):
        at, day = pair[rows], events["day"][rows]
        silence = day - last[at]
        half_lives = domain.half_lives_days * people.stretch[events["user"][rows], None]
        faded = memory[at] * np.exp2(-silence[:, None] / half_lives)
        positive, before = (np.maximum(values, 0.0).sum(axis=1) for values in (faded, memory[at]))
        left = luck[rows] * (affinity[rows] + positive) < affinity[rows] + faded.sum(axis=1)
        parent = events["parent"][rows]
        happened = events["planted"][rows] | (left & ((parent < 0) | walked.happened[parent]))
        walked.happened[rows] = happened
        walked.silence_days[rows] = silence
        walked.retained_share[rows] = np.divide(positive, before, out=np.ones(len(rows)), where=before > 0)
        at, rows = at[happened], rows[happened]
        memory[at], last[at] = faded[happened], events["day"][rows]
        memory[at, events["type"][rows]] += jumps[rows]
    return walked


def _rounds(pair: Integers, day: Floats) -> list[Integers]:
    """Rows of each pair's first event, of each pair's second, and so on; pairs (n,) count from 0."""
    order = np.lexsort((day, pair))
    sizes = np.bincount(pair)
    rank = np.arange(len(pair)) - np.repeat(sizes.cumsum() - sizes, sizes)
    by_rank = order[np.argsort(rank, kind="stable")]
    return np.split(by_rank, np.bincount(rank).cumsum()[:-1])
