"""Why a score is what it is: what is left of each event of a pair in every channel, and when it will have halved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from halflife.answers.night import PublishedNight
from halflife.decay import SECONDS_PER_DAY, Floats, decay_integral, probability
from halflife.errors import InputMissingError
from halflife.model.features import EVENT_COLUMNS
from halflife.nights import instant
from halflife.scoring import pairs
from halflife.scoring.pairs import States
from halflife.scoring.precision import strengths
from halflife.warehouse import digests

# What a jump is made of, and what a person is told of its event.
TOLD: Final = ("user_index", "event_type", "event_time", *EVENT_COLUMNS)
LONGEST_DAYS: Final = 100 * 365.0  # what has not halved by then is said not to
STEPS: Final = 512  # between now and then, closer to now than to then


@dataclass(frozen=True)
class Explanation:
    """The score of a pair tonight as a sum: `memory` is that of `left`, `expected` is `affinity` + `memory`.

    events (n rows): time, type, strength. jumps (n, K) are rates a day at the event, below zero where it takes interest
    away; left (n, K) is what they add to the expected strength over the horizon after tonight. `popularity` is the
    affinity of a user without events. `published` is the score in the table, None where it has no row for the pair.
    """

    user_id: str
    item_id: str
    title: str | None
    as_of: date
    half_lives_days: Floats
    horizon_days: float
    events: pd.DataFrame
    jumps: Floats
    left: Floats
    affinity: float
    popularity: float
    published: float | None
    halves_after_days: float | None  # the expected strength; None: it never will
    score_halves_after_days: float | None

    @property
    def memory(self) -> float:
        """Expected strength from the pair's own events."""
        return float(self.left.sum())

    @property
    def expected(self) -> float:
        """Expected strength over the horizon; below zero counts as zero."""
        return max(self.affinity + self.memory, 0.0)

    @property
    def score(self) -> float:
        """Probability that the user engages with the item within the horizon."""
        return float(probability(self.expected))


def explain(night: PublishedNight, user_id: str, item_id: str) -> Explanation:
    """Explain the score of a pair on a published night.

    Raises UnknownIdError, and InputMissingError where the events are not those that the night was scored from.
    """
    user, place = night.user(user_id), int(night.items.places([item_id])[0])
    check_events(night)
    of_pair = (ds.field("user_index") == user) & (ds.field("item_index") == int(night.items.index[place]))
    events = read_events(night, of_pair)
    return explanation(
        night, user_id, place, night.states(user, user), events, published_score(night, user_id, item_id)
    )


def explanation(
    night: PublishedNight, user_id: str, place: int, states: States, events: pd.DataFrame, score: float | None
) -> Explanation:
    """The explanation of the item at `place`, from a user's `states` and the `events` of the pair."""
    jumps, left = contributions(night, events, night.at_seconds)
    tonight = np.array([night.at_seconds])
    curve = strength_curve(night, states, place)
    return Explanation(
        user_id=user_id,
        item_id=str(night.items.ids[place]),
        title=night.items.titles[place],
        as_of=night.as_of,
        half_lives_days=night.half_lives_days,
        horizon_days=night.horizon_days,
        events=events[["event_time", "event_type", "strength"]].reset_index(drop=True),
        jumps=jumps,
        left=left,
        affinity=float(affinity(night, states, place, tonight)[0]),
        popularity=float(night.horizon_days * np.exp(night.items.side.bias[place])),
        published=score,
        halves_after_days=halving_days(curve),
        score_halves_after_days=halving_days(lambda days: probability(curve(days)).astype(np.float64)),
    )


def contributions(night: PublishedNight, events: pd.DataFrame, at_seconds: float) -> tuple[Floats, Floats]:
    """Signed jumps of events in every channel, and what each adds to the expected strength after an instant, (n, K)."""
    strength = events["strength"].to_numpy()
    sizes = night.model.jumps({name: events[name].to_numpy() for name in events.columns})
    jumps: Floats = np.sign(strength)[:, None] * sizes
    ages = (at_seconds - seconds_of(events)) / SECONDS_PER_DAY
    return jumps, jumps * decay_integral(ages, night.half_lives_days, night.horizon_days)


def seconds_of(events: pd.DataFrame) -> Floats:
    """Times of events, in seconds."""
    naive = events["event_time"].dt.tz_convert("UTC").dt.tz_localize(None)
    seconds: Floats = naive.to_numpy(dtype="datetime64[us]").astype(np.int64) / 1e6
    return seconds


def affinity(night: PublishedNight, states: States, place: int, at_seconds: Floats) -> Floats:
    """Expected strength from one user's affinity for one item at instants (T,)."""
    # One user at T instants is a block of T users.
    block = replace(
        states,
        readouts=np.broadcast_to(states.readouts, (len(at_seconds), *states.readouts.shape[1:])),
        anchor_seconds=np.broadcast_to(states.anchor_seconds, len(at_seconds)),
    )
    side, item = night.items.side, slice(place, place + 1)
    found = pairs.affinity(
        block, at_seconds, night.half_lives_days, night.horizon_days, side.vectors[item], side.bias[item]
    )
    return found[:, 0].astype(np.float64)


def curve_of(night: PublishedNight, user_id: str, item_id: str) -> Callable[[Floats], Floats]:
    """The expected strength of a pair as a function of days (T,) after the night."""
    user = night.user(user_id)
    return strength_curve(night, night.states(user, user), int(night.items.places([item_id])[0]))


def memory_curve(explained: Explanation) -> Callable[[Floats], Floats]:
    """The expected strength from the pair's own events as a function of days (T,) after the night, or before it."""
    tonight = instant(explained.as_of).timestamp()
    days_of = (seconds_of(explained.events) - tonight) / SECONDS_PER_DAY

    def expected(days: Floats) -> Floats:
        ages = days[:, None] - days_of  # (T, n)
        weights = decay_integral(ages, explained.half_lives_days, explained.horizon_days) * (ages >= 0)[:, :, None]
        found: Floats = np.einsum("tnk,nk->t", weights, explained.jumps)
        return found

    return expected


def strength_curve(night: PublishedNight, states: States, place: int) -> Callable[[Floats], Floats]:
    """The expected strength of one user's item as a function of days (T,) after the night."""
    mine = states.item == place
    pair = replace(
        states,
        user=states.user[mine],
        item=states.item[mine],
        pair_seconds=states.pair_seconds[mine],
        positive=states.positive[mine],
        negative=states.negative[mine],
    )

    def expected(days: Floats) -> Floats:
        at = night.at_seconds + days * SECONDS_PER_DAY
        total = affinity(night, states, place, at)
        for row in range(len(pair.user)):
            ages = (at - pair.pair_seconds[row]) / SECONDS_PER_DAY
            weights = decay_integral(ages, night.half_lives_days, night.horizon_days)
            total += weights @ (pair.positive[row] - pair.negative[row])
        return np.maximum(total, 0.0)

    return expected


def halving_days(curve: Callable[[Floats], Floats]) -> float | None:
    """Days until a curve has fallen to half of what it is at 0 for the first time; None where it never does."""
    half = float(curve(np.zeros(1))[0]) / 2
    days = np.concatenate([[0.0], np.geomspace(1e-3, LONGEST_DAYS, STEPS)])
    below = np.flatnonzero(curve(days) <= half)
    if half <= 0 or not len(below):
        return None
    early, late = float(days[below[0] - 1]), float(days[below[0]])
    while late - early > 1e-6 * late:
        middle = (early + late) / 2
        early, late = (early, middle) if curve(np.array([middle]))[0] <= half else (middle, late)
    return late


def published_score(night: PublishedNight, user_id: str, item_id: str) -> float | None:
    """The score in the published table, whatever its layout and encoding; None where it has no row for the pair."""
    written = night.written_as
    chosen = ds.field("user_id") == user_id
    if written.layout == "rows":
        chosen &= ds.field("item_id") == item_id
    found = ds.dataset(night.store.path("scores", night.as_of)).to_table(columns=["score"], filter=chosen)
    if not len(found):
        return None
    value = found["score"][0].as_py()
    if written.layout == "arrays":
        value = value[night.items.index[night.items.places([item_id])[0]]]
    return float(probability(strengths(np.array(value))) if written.encoding == "uint8" else value)


def check_events(night: PublishedNight) -> None:
    """Raises InputMissingError where the events published today are not those that the night was scored from."""
    if digests(night.store.manifest("sessionize", night.as_of)) != night.manifest["inputs"]["sessionize"]:
        raise InputMissingError(
            f"the events of {night.as_of} were published again since that night was scored; "
            f"run jobs/score.py --as-of {night.as_of}"
        )


def read_events(night: PublishedNight, chosen: ds.Expression) -> pd.DataFrame:
    """The chosen events of a night, in order."""
    events = ds.dataset(night.store.path("events", night.as_of)).to_table(columns=list(TOLD), filter=chosen)
    order = [(name, "ascending") for name in ("user_index", "item_index", "event_time")]
    times = events["event_time"].cast(pa.timestamp("us"))  # pyarrow 14 makes zoned ones by what pandas deprecates
    place = events.column_names.index("event_time")
    found: pd.DataFrame = events.set_column(place, "event_time", times).sort_by(order).to_pandas()
    return found.assign(event_time=found["event_time"].dt.tz_localize("UTC"))
