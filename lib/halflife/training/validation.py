"""How good the network is on the days held out: strengths at midnights, and the ranking of the next session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from halflife.config import TrainConfig
from halflife.decay import SECONDS_PER_DAY
from halflife.model.batch import Batch, Indexes
from halflife.model.losses import errors, expected_strengths, losses_of, strengths_and_order, weighted
from halflife.model.network import Network
from halflife.training.batches import batch_of
from halflife.training.examples import History, Times, next_session
from halflife.training.tensors import batch_specs

CUTOFF = 10
USERS_PER_BATCH = 64
DISCOUNTS = 1 / np.log2(np.arange(2, CUTOFF + 2))


@dataclass
class ValidationUsers:
    """Held-out examples of one rank: midnights of a user, `each` at most, and the next session where there is one."""

    each: int = 1
    midnights: list[tuple[History, float]] = field(default_factory=list)
    sessions: list[tuple[History, float, Indexes]] = field(default_factory=list)

    def add(self, history: History, begin: float, end: float, horizon_days: float, place: int) -> None:
        """Take a user's examples from the days between `begin` and `end`; midnights, far apart, go round by `place`."""
        if not len(history) or history.seconds[0] >= begin:
            return
        days = (end - begin) / SECONDS_PER_DAY
        nights = int(days - horizon_days) + 1
        each = min(self.each, nights, int(days / horizon_days))  # more would look at the same days again
        for number in range(each):
            night = (place + number * nights // each) % nights
            self.midnights.append((history, begin + night * SECONDS_PER_DAY))
        session = next_session(history, begin, end)
        if session is not None:
            self.sessions.append((history, *session))


class Sums(NamedTuple):
    """What figures are made of: over midnights, over all their pairs of users and items, and over next sessions.

    `trained` is the weighted sum of the losses of strengths that training makes small, `order` its loss of ranking,
    over the `next_sessions` that follow the midnights.
    """

    likelihood: float
    expected: float
    observed: float
    squared_error: float
    absolute_error: float
    observed_squared: float
    trained: float
    order: float
    next_sessions: float
    midnights: float
    pairs: float
    ndcg: float
    recall: float
    sessions: float


class Validator:
    """Sums of the validation figures over one rank's users, to be added over ranks: see `figures`."""

    def __init__(self, network: Network, train: TrainConfig) -> None:
        self.network = network
        loss: dict[str, float] = {str(name): weight for name, weight in train.loss.items()}
        architecture = network.architecture
        self._shape = architecture.sequence_length, architecture.horizon_days
        everything = tf.range(architecture.items)
        specs = batch_specs(architecture.sequence_length)

        @tf.function(input_signature=[specs])  # type: ignore[untyped-decorator]
        def strengths(batch: Batch) -> Any:
            expected, order = strengths_and_order(network, batch, everything, tf.ones(architecture.items))
            sessions = tf.math.count_nonzero(batch.sessions.items, dtype=tf.float32)
            sums = [*losses_of(expected, batch.targets), *errors(expected, batch.targets)]
            return tf.stack([*sums, weighted(expected, batch.targets, loss), order, sessions])

        @tf.function(input_signature=[specs])  # type: ignore[untyped-decorator]
        def best_items(batch: Batch) -> Any:
            return tf.math.top_k(expected_strengths(network, batch, everything), min(CUTOFF, architecture.items))[1]

        self._strengths, self._best_items = strengths, best_items

    def sums(self, users: ValidationUsers) -> NDArray[np.float64]:
        """`Sums` over one rank's users, as an array."""
        strengths = np.zeros(9)
        for chunk in _chunks(users.midnights):
            strengths += self._strengths(self._batch([user for user, _ in chunk], [cut for _, cut in chunk])).numpy()
        ranking = np.zeros(2)
        for rows in _chunks(users.sessions):
            best = self._best_items(self._batch([row[0] for row in rows], [row[1] for row in rows])).numpy()
            for found, (_, _, truth) in zip(best, rows, strict=True):
                ranking += ndcg_and_recall(found, truth)
        midnights, items = len(users.midnights), self.network.architecture.items
        return np.array([*strengths, midnights, midnights * items, *ranking, len(users.sessions)])

    def _batch(self, histories: Sequence[History], cuts: Sequence[float]) -> Batch:
        times: list[Times] = [np.array([cut]) for cut in cuts]
        return batch_of(histories, times, *self._shape)


def ndcg_and_recall(ranked: NDArray[Any], truth: NDArray[Any]) -> tuple[float, float]:
    """NDCG and recall at CUTOFF of one ranking; the ideal ranking has min(CUTOFF, len(truth)) hits."""
    hits = np.isin(ranked, truth)
    ideal = DISCOUNTS[: min(CUTOFF, len(truth))].sum()
    return float(hits @ DISCOUNTS[: len(hits)] / ideal), float(hits.sum() / len(truth))


def figures(sums: NDArray[np.float64], ranking_weight: float) -> dict[str, float]:
    """Means from the `Sums` over all ranks: loss per user, expected over observed strength, errors, NDCG and recall.

    The errors are those of interest strength, over all pairs of users and items. The loss is the likelihood, whatever
    training makes small; the objective is that: losses of strengths and of order, weighted as in a step.
    """
    total = Sums(*(float(value) for value in sums))
    pairs = max(total.pairs, 1.0)
    variation = total.observed_squared - total.observed**2 / pairs
    order = ranking_weight * total.observed * total.order / max(total.next_sessions, 1.0)
    return {
        "validation_loss": total.likelihood / max(total.midnights, 1.0),
        "validation_objective": (total.trained + order) / max(total.midnights, 1.0),
        "validation_calibration": total.expected / max(total.observed, 1e-9),
        "validation_mse": total.squared_error / pairs,
        "validation_mae": total.absolute_error / pairs,
        "validation_r2": 1.0 - total.squared_error / max(variation, 1e-9),
        "validation_ndcg_at_10": total.ndcg / max(total.sessions, 1.0),
        "validation_recall_at_10": total.recall / max(total.sessions, 1.0),
    }


def _chunks(rows: list[Any]) -> Iterator[list[Any]]:
    for begin in range(0, len(rows), USERS_PER_BATCH):
        yield rows[begin : begin + USERS_PER_BATCH]
