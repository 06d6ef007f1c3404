"""A published model on held-out days, computed from its files as at night: the present one, and its challenger.

Both are read and scored in the same way, so that neither the form of the weights nor the users' stretches, which only
a published model has, decide between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halflife.model.artifact import Model
from halflife.model.losses import LEAST_STRENGTH
from halflife.scoring import pairs
from halflife.training.batches import batch_of
from halflife.training.examples import COLUMNS, History
from halflife.training.validation import CUTOFF, ValidationUsers, ndcg_and_recall

Floats = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]

# A block of (users, items) strengths is the largest array here.
USERS_PER_BLOCK: Final = 64


class Contestant:
    """A published model that scores users at any time of their history."""

    def __init__(self, model: Model, items: pd.DataFrame, horizon_days: float) -> None:
        self.model = model
        self.side = model.item_side(len(items), items)
        self.horizon_days = horizon_days

    def sums(self, users: ValidationUsers) -> Floats:
        """Likelihood and midnights, NDCG and sessions of one rank's users: sums."""
        totals = np.zeros(4)
        for begin in range(0, len(users.midnights), USERS_PER_BLOCK):
            midnights = users.midnights[begin : begin + USERS_PER_BLOCK]
            totals[:2] += [self._loss(midnights), len(midnights)]
        for begin in range(0, len(users.sessions), USERS_PER_BLOCK):
            sessions = users.sessions[begin : begin + USERS_PER_BLOCK]
            expected = self.expected([(history, cut) for history, cut, _ in sessions])
            best = np.argsort(-expected, axis=1, kind="stable")[:, :CUTOFF]
            ndcgs = [ndcg_and_recall(found, truth)[0] for found, (*_, truth) in zip(best, sessions, strict=True)]
            totals[2:] += [sum(ndcgs), len(sessions)]
        return totals

    def expected(self, cuts: Sequence[tuple[History, float]]) -> NDArray[np.float32]:
        """Expected strength of all items over the horizon after each cut: (B, I)."""
        known = [_before(history, cut) for history, cut in cuts]
        events = {name: np.concatenate([columns[name] for columns in known]) for name in COLUMNS}
        counts = [len(columns["item_index"]) for columns in known]
        events["user_index"] = np.repeat([history.user for history, _ in cuts], counts)
        jumps, sign = self.model.jumps(_event_columns(events)), np.sign(events["strength"])[:, None]
        states = pairs.States(
            readouts=self.model.encode(_sequences(known, self.model.sequence_length)),
            anchor_seconds=np.array([columns["event_seconds"].max(initial=-np.inf) for columns in known]),
            user=pairs.block_of(counts),
            item=events["item_index"],
            pair_seconds=events["event_seconds"],
            positive=jumps * (sign > 0),
            negative=jumps * (sign < 0),
        )
        at, half_lives = np.array([cut for _, cut in cuts]), self.model.half_lives_days
        strengths = pairs.affinity(states, at, half_lives, self.horizon_days, self.side.vectors, self.side.bias)
        # Each event is a state of its own here: several may fall on one pair.
        remembered = pairs.memory(states, at, half_lives, self.horizon_days)
        np.add.at(strengths, (states.user, states.item), remembered.astype(np.float32))
        return np.maximum(strengths, np.float32(0))

    def _loss(self, midnights: Sequence[tuple[History, float]]) -> float:
        times = [np.array([cut]) for _, cut in midnights]
        targets = batch_of([history for history, _ in midnights], times, 1, self.horizon_days).targets
        expected = self.expected(midnights)
        logs = np.log(np.maximum(expected[targets.cut, targets.item], LEAST_STRENGTH))
        return float(expected.sum(dtype=np.float64) - targets.strength @ logs)


def _before(history: History, cut: float) -> Columns:
    known = history.seconds < cut
    return {name: history.columns[name][known] for name in COLUMNS}


def _event_columns(events: Columns) -> Columns:
    """Columns as in the events table, whose gaps are in seconds."""
    gap, revisit_gap = (np.expm1(events[name].astype(np.float64)) for name in ("gap_log", "revisit_gap_log"))
    return {**events, "gap_seconds": gap, "revisit_gap_seconds": revisit_gap}


def _sequences(known: Sequence[Columns], length: int) -> Columns:
    """The last `length` events of each user, right-padded to (B, length), and their number (B,)."""
    columns = {name: np.zeros((len(known), length), dtype=kind) for name, kind in COLUMNS.items()}
    columns["length"] = np.array([min(length, len(user["item_index"])) for user in known], dtype=np.int32)
    for place, user in enumerate(known):
        for name in COLUMNS:
            columns[name][place, : columns["length"][place]] = user[name][-length:]
    return columns
