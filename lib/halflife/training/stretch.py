"""Each user's stretch at the end of training: what the user's own history says, weighed against the user's pace."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from halflife.decay import SECONDS_PER_DAY
from halflife.model.batch import Batch
from halflife.model.losses import stretched_likelihoods
from halflife.model.network import Network
from halflife.training.batches import batch_of
from halflife.training.examples import History, Times
from halflife.training.tensors import batch_specs

GRID: Final = np.linspace(-1.0, 1.0, 41)
# Of users' stretches around what their pace says: the standard deviation before a history is looked at.
SPREAD: Final = 0.5
USERS_PER_BATCH: Final = 16


class Stretches:
    """Estimates the stretches of users under a trained network that has a stretch.

    A stretch is the mean of its posterior: a normal prior around what the pace says, times the likelihood of the
    user's own windows of one horizon, one after the other, each given what came before it. Generated video log, 500
    users, 1,000 items, a year: such stretches rank users like their true half-lives with .888. So they do on a grid of
    -2..2 (.886) and with twice the spread (.882); with a factor exp(stretch tilt_k) a channel, in place of a shift of
    the half-lives, it was .73, on windows of a quarter of the horizon as well.
    """

    def __init__(self, network: Network) -> None:
        assert network.stretch is not None
        self.network = network
        self.stretch = network.stretch
        specs = batch_specs(network.architecture.sequence_length)

        @tf.function(input_signature=[specs])  # type: ignore[untyped-decorator]
        def likelihoods(batch: Batch) -> Any:
            return stretched_likelihoods(network, batch, tf.constant(GRID, tf.float32))

        self._likelihoods = likelihoods

    def of(self, histories: Iterable[History], before_seconds: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Index and stretch of users as of `before_seconds`; of those without events there is none."""
        parts = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))]
        known = (history for history in histories if len(history))
        while chunk := list(islice(known, USERS_PER_BATCH)):
            parts.append((np.array([history.user for history in chunk]), self._means(chunk, before_seconds)))
        users, stretch = zip(*parts, strict=True)
        return np.concatenate(users), np.concatenate(stretch)

    def _means(self, histories: list[History], before_seconds: float) -> NDArray[np.float32]:
        horizon_days = self.network.architecture.horizon_days
        cuts = [windows(history, before_seconds, horizon_days) for history in histories]
        batch = batch_of(histories, cuts, self.network.architecture.sequence_length, horizon_days)
        # The last window's cut knows all but what that window holds; the pace may know that too.
        ends = batch_of(histories, [np.array([before_seconds]) for _ in histories], 1, horizon_days).users
        prior = self.stretch(ends.pace, ends.events).numpy()
        logs = -((GRID - prior[:, None]) ** 2) / (2 * SPREAD**2)
        user = np.repeat(np.arange(len(histories)), [len(times) for times in cuts])
        if len(user):
            np.add.at(logs, user, self._likelihoods(batch).numpy())
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        means: NDArray[np.float32] = (weights @ GRID / weights.sum(axis=1)).astype(np.float32)
        return means


def windows(history: History, before_seconds: float, horizon_days: float) -> Times:
    """Begins of the whole windows of one horizon, one after the other, that end by `before_seconds`.

    The last ends there; none begins before the user's first event.
    """
    horizon = horizon_days * SECONDS_PER_DAY
    count = int((before_seconds - history.seconds[0]) // horizon)
    begins = before_seconds - horizon * np.arange(count, 0, -1)
    return np.asarray(begins[begins > history.seconds[0]])
