"""Whether explanations add up: random pairs of the published table, explained event by event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from halflife.answers.explain import check_events, explanation, read_events
from halflife.answers.night import PublishedNight
from halflife.errors import ConfigError, InputMissingError

TOLERANCE: Final = 1e-6
GROUPS: Final = 10  # row groups of `scores` that pairs are drawn from


@dataclass(frozen=True)
class Checked:
    """What became of the pairs: their number, that of those with events, and the largest |sum - published score|."""

    pairs: int
    with_events: int
    events: int
    largest_difference: float

    @property
    def adds_up(self) -> bool:
        """Whether every sum is its published score, as exactly as scores are published."""
        return self.largest_difference <= TOLERANCE


def in_words(checked: Checked) -> str:
    """One line about what was checked."""
    return (
        f"{checked.pairs:,} random pairs, {checked.with_events:,} of them with {checked.events:,} events: "
        f"largest difference between explanation and published score {checked.largest_difference:.2g} "
        f"(allowed {TOLERANCE:g})"
    )


def check(night: PublishedNight, count: int, seed: int = 0) -> Checked:
    """Explain `count` random pairs of a night, half of them drawn from those with memory, beside their scores.

    Raises ConfigError where the night's scores are not numbers of pairs: arrays, or codes of eight bits.
    """
    written = night.written_as
    if written.layout != "rows" or written.encoding == "uint8":
        raise ConfigError(
            f"the scores of {night.as_of} are written as {written.layout} in {written.encoding}: only rows of exact or "
            "rounded numbers can be checked"
        )
    check_events(night)
    drawn = _drawn(night, count, np.random.default_rng(seed))
    users = {user_id: night.user(user_id) for user_id in drawn["user_id"].unique()}
    places = night.items.places(drawn["item_id"].tolist())
    of_users = ds.field("user_index").isin(list(users.values())) & ds.field("item_index").isin(
        night.items.index[places].tolist()
    )
    found = read_events(night, of_users)
    events = dict(list(found.groupby(["user_index", "item_index"])))
    states = {user_id: night.states(user, user) for user_id, user in users.items()}
    differences, with_events, total = [0.0], 0, 0
    for user_id, score, place in zip(drawn["user_id"], drawn["score"], places.tolist(), strict=True):
        of_pair = events.get((users[user_id], int(night.items.index[place])), found[:0])
        explained = explanation(night, user_id, place, states[user_id], of_pair, float(score))
        differences.append(abs(explained.score - float(score)))
        with_events, total = with_events + bool(len(of_pair)), total + len(of_pair)
    return Checked(len(drawn), with_events, total, max(differences))


def _drawn(night: PublishedNight, count: int, chance: np.random.Generator) -> pd.DataFrame:
    """Random rows of `scores`: user_id, item_id, score."""
    files = ds.dataset(night.store.path("scores", night.as_of)).get_fragments()
    groups = [group for file in files for group in file.split_by_row_group() if group.row_groups[0].num_rows]
    if not groups:
        raise InputMissingError(f"the scores of {night.as_of} hold no pair that could be checked")
    chosen = chance.choice(len(groups), size=min(GROUPS, len(groups)), replace=False)
    drawn = []
    for share, place in zip(np.array_split(np.arange(count), len(chosen)), chosen.tolist(), strict=True):
        rows = groups[place].to_table(columns=["user_id", "item_id", "score", "memory"])
        remembered = np.flatnonzero(pc.not_equal(rows["memory"], 0).to_numpy())
        anywhere = chance.integers(len(rows), size=len(share) - len(share) // 2)
        places = np.concatenate([anywhere, chance.choice(remembered, len(share) // 2)]) if len(remembered) else anywhere
        drawn.append(rows.select(["user_id", "item_id", "score"]).take(places))
    found: pd.DataFrame = pa.concat_tables(drawn).to_pandas()
    return found
