"""The model as a scorer of the next-basket protocol: its own closed form, at an instant of each user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halflife.scoring import pairs
from halflife.scoring.pairs import States


@dataclass(frozen=True)
class ModelScorer:
    """Expected strength over the horizon, from the tables USER_STATES and MEMORY and the model's item side.

    half_lives_days (K,); bias (I,) and vectors (I, d) by item index. A `ranking.BlockScorer`.
    """

    half_lives_days: NDArray[np.float64]
    horizon_days: float
    bias: NDArray[np.float32]
    vectors: NDArray[np.float32]

    @classmethod
    def exponential(cls, half_lives_days: Sequence[float], horizon_days: float, items: int) -> ModelScorer:
        """The classical law: memory alone, the affinity exp(-inf) of every item is zero."""
        return cls(
            half_lives_days=np.asarray(half_lives_days, dtype=np.float64),
            horizon_days=horizon_days,
            bias=np.full(items, -np.inf, dtype=np.float32),
            vectors=np.zeros((items, 1), dtype=np.float32),
        )

    def __call__(
        self,
        users: NDArray[np.int64],
        at_seconds: NDArray[np.float64],
        item_indices: NDArray[np.int64],
        states: pd.DataFrame,
        memory: pd.DataFrame,
    ) -> NDArray[np.float32]:
        """Expected strength (B, n) of users (B,) at their instants for items (n,)."""
        block = self._states(users, item_indices, states, memory)
        expected = pairs.affinity(
            block,
            at_seconds,
            self.half_lives_days,
            self.horizon_days,
            self.vectors[item_indices],
            self.bias[item_indices],
        )
        remembered = pairs.memory(block, at_seconds, self.half_lives_days, self.horizon_days)
        return pairs.add_memory(expected, block, remembered)

    def _states(
        self, users: NDArray[np.int64], item_indices: NDArray[np.int64], states: pd.DataFrame, memory: pd.DataFrame
    ) -> States:
        """The block's states as arrays, items counted as columns; pairs of other users and items fall out."""
        row = pd.Index(users).get_indexer(pd.Index(memory["user_index"]))
        column = pd.Index(item_indices).get_indexer(pd.Index(memory["item_index"]))
        inside = (row >= 0) & (column >= 0)
        kept = memory[inside]
        return States(
            readouts=self._readouts(states),
            # Without a state the affinity has faded to popularity: the last event is infinitely long ago.
            anchor_seconds=states["anchor_seconds"].fillna(-np.inf).to_numpy(dtype=np.float64),
            user=row[inside].astype(np.int32),
            item=column[inside].astype(np.int32),
            pair_seconds=kept["anchor_seconds"].to_numpy(dtype=np.float64),
            positive=self._channels(kept["positive"]),
            negative=self._channels(kept["negative"]),
        )

    def _readouts(self, states: pd.DataFrame) -> NDArray[np.float32]:
        channels, size = self.half_lives_days.size, self.vectors.shape[1]
        readouts = np.zeros((len(states), channels, size), dtype=np.float32)
        for row, flat in enumerate(states["readouts"]):
            if flat is not None:
                readouts[row] = np.asarray(flat, dtype=np.float32).reshape(channels, size)
        return readouts

    def _channels(self, values: pd.Series[Any]) -> NDArray[np.float64]:
        if values.empty:
            return np.zeros((0, self.half_lives_days.size))
        stacked: NDArray[np.float64] = np.stack(values.tolist()).astype(np.float64)
        return stacked
