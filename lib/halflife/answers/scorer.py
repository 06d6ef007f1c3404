"""A user's scores at any instant, from the states of a published night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from halflife.answers.night import Places, PublishedNight
from halflife.decay import probability
from halflife.scoring import pairs
from halflife.scoring.pairs import Matrix, States
from halflife.topn import top_columns
from halflife.warehouse import Warehouse


class Scorer:
    """How interested a user is in items, tonight or at any later instant: closed form, no Spark, no network, no server.

    `root` is the warehouse's folder, `as_of` the night whose states are read, by default the last one. Answers know
    what happened before that night, and nothing later. For one thread; states are read anew for each call,
    a few milliseconds of memory-mapped Parquet.

    Raises InputMissingError where the night is not published, ModelError where its model is not.
    """

    def __init__(self, root: str | Path, as_of: date | None = None) -> None:
        self._night = PublishedNight(Warehouse(root), as_of)

    @property
    def as_of(self) -> date:
        """The night whose states are read."""
        return self._night.as_of

    def score(
        self, user_id: str, item_ids: Sequence[str] | None = None, at: datetime | date | None = None
    ) -> pd.DataFrame:
        """Scores of items, all of them by default, in the order they are named: item_id, score, affinity, memory.

        The columns are those of the table `scores`, and so are the values where `at` is the night. A time without a
        zone is UTC. A user without events gets the popularity of each item.
        Raises UnknownIdError (a KeyError) for an unknown user or item, ConfigError for a time before the night.
        """
        night = self._night
        user, items = night.user(user_id), night.items
        places = np.arange(len(items.ids)) if item_ids is None else items.places(item_ids)
        strength = strength_of(night, night.states(user, user), places, night.seconds(at))
        return pd.DataFrame(
            {
                "item_id": items.ids[places],
                "score": probability(strength.expected),
                "affinity": strength.affinity,
                "memory": strength.memory,
            }
        )

    def top(self, user_id: str, n: int, at: datetime | date | None = None) -> pd.DataFrame:
        """The `n` items of the highest score, best first: rank, title and the columns of `score`.

        As in the table `recommendations`, equal items stand in the order of their ids, and items of which nothing is
        expected are left out.
        """
        scores = self.score(user_id, at=at)
        expected = np.maximum(scores["affinity"].to_numpy() + scores["memory"].to_numpy(), 0)
        best = top_columns(expected[None], n)[0]
        best = best[expected[best] > 0]
        titles = [self._night.items.titles[place] for place in best]
        found: pd.DataFrame = scores.iloc[best].reset_index(drop=True)
        found.insert(0, "rank", np.arange(1, len(best) + 1))
        found.insert(2, "title", titles)
        return found


@dataclass(frozen=True)
class Strength:
    """Expected strength of one user's items over the horizon, (n,), and its two parts."""

    affinity: Matrix
    memory: Matrix

    @property
    def expected(self) -> Matrix:
        """Their sum; below zero counts as zero."""
        expected: Matrix = np.maximum(self.affinity + self.memory, np.float32(0))
        return expected


def strength_of(night: PublishedNight, states: States, places: Places, at_seconds: float) -> Strength:
    """Expected strength of one user, a block of its own, for the items at `places`."""
    at, side = np.array([at_seconds]), night.items.side
    affinity = pairs.affinity(
        states, at, night.half_lives_days, night.horizon_days, side.vectors[places], side.bias[places]
    )[0]
    memory = np.zeros(len(side.bias), dtype=np.float32)
    memory[states.item] = pairs.memory(states, at, night.half_lives_days, night.horizon_days)
    return Strength(affinity, memory[places])
