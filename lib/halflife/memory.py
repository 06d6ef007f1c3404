"""The memory of (user, item) pairs as a commutative monoid in NumPy: decay the older state to the newer time, then add.

Times are microseconds, half-lives days; a night is its day since 1970 and stands for that day's first instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from halflife.decay import Floats, decay, decay_integral

Integers = NDArray[np.int64]

MICROS_PER_DAY: Final = 86_400_000_000
LAST_NIGHT: Final = 2**18  # 700 years after the anchor
NEVER: Final = -1


@dataclass(frozen=True)
class States:
    """States of n pairs, or single events as such: time, event count, whether it was revived, channels (n, K).

    `leading` are the K jumps of the event that promised most, at `leading_time`, of type `leading_type`.
    """

    time: Integers
    events: Integers
    revived: NDArray[np.bool_]
    positive: Floats
    negative: Floats
    leading_time: Integers
    leading_type: NDArray[np.int32]
    leading: Floats

    def at(self, rows: NDArray[Any]) -> States:
        """Some of them, copied."""
        return States(*(column[rows] for column in self.__dict__.values()))

    def put(self, rows: NDArray[Any], states: States) -> None:
        """Replace some of them."""
        for column, values in zip(self.__dict__.values(), states.__dict__.values(), strict=True):
            column[rows] = values


@dataclass(frozen=True)
class Pace:
    """How memory fades, and what is a revival: after `silence_days` or more, with less than `retained_share` left."""

    half_lives_days: Floats
    horizon_days: float
    retained_share: float
    silence_days: float


def fold(states: States, lengths: Integers, pace: Pace) -> States:
    """Add up the states of each pair, which follow one another in the order of time: `lengths` (P,) of them a pair.

    Each step decays from one event to the next: the very steps that one night after the other takes, so that N nights
    and one rebuild give the same bits.
    """
    start = np.cumsum(lengths) - lengths
    merged = states.at(start)
    for step in range(1, int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > step)
        merged.put(rows, _followed(merged.at(rows), states.at(start[rows] + step), pace))
    return merged


def _followed(state: States, event: States, pace: Pace) -> States:
    """Each state after the event that follows it."""
    days = (event.time - state.time) / MICROS_PER_DAY
    left = decay(days, pace.half_lives_days)
    positive = state.positive * left
    silent = (days >= pace.silence_days) & (positive.sum(axis=1) < state.positive.sum(axis=1) * pace.retained_share)
    leads = _promise(event, event.time, pace) >= _promise(state, event.time, pace)
    return States(
        time=event.time,
        events=state.events + event.events,
        revived=silent,
        positive=positive + event.positive,
        negative=state.negative * left + event.negative,
        leading_time=np.where(leads, event.leading_time, state.leading_time),
        leading_type=np.where(leads, event.leading_type, state.leading_type),
        leading=np.where(leads[:, None], event.leading, state.leading),
    )


def _promise(states: States, time: Integers, pace: Pace) -> Floats:
    """Expected strength of the leading events over the horizon after a time."""
    ages = (time - states.leading_time) / MICROS_PER_DAY
    promise: Floats = (states.leading * decay_integral(ages, pace.half_lives_days, pace.horizon_days)).sum(axis=1)
    return promise


def faded_on(states: States, pace: Pace, below: float) -> Integers:
    """The first night from which each memory's expected strength over the horizon stays under `below`, or NEVER (n,).

    NEVER where it reaches `below` neither at its last event nor on any night after. Searched by bisection: where all
    channels have one sign the strength only falls. Else the positive part alone bounds the night, and since the
    negative part is at least what it is on that night, each bound gives a nearer one, until none is nearer.
    """
    weights = decay_integral(0.0, pace.half_lives_days, pace.horizon_days)
    net = (states.positive - states.negative) * weights
    positive, negative = np.maximum(net, 0.0), np.maximum(-net, 0.0)
    first = states.time // MICROS_PER_DAY + 1
    after = first - states.time / MICROS_PER_DAY  # days from the last event to the first night

    def strength(channels: Floats, rows: NDArray[Any], nights: Integers) -> Floats:
        total: Floats = (channels[rows] * decay(after[rows] + nights, pace.half_lives_days)).sum(axis=1)
        return total

    everyone = np.arange(len(net))
    found = _first_below(positive, everyone, np.full(len(net), below), strength)
    mixed = np.flatnonzero(negative.any(axis=1))
    while mixed.size:
        bound = below + strength(negative, mixed, found[mixed] - 1)
        nearer = np.minimum(_first_below(positive, mixed, bound, strength), found[mixed])
        mixed, nearer = mixed[nearer < found[mixed]], nearer[nearer < found[mixed]]
        found[mixed] = nearer
        mixed = mixed[nearer > 0]
    never = (found == 0) & (net.sum(axis=1) < below)
    return np.where(never, NEVER, first + found)


def _first_below(channels: Floats, rows: NDArray[Any], bound: Floats, strength: Any) -> Integers:
    """The first night, counted from 0, on which each falling strength is under its bound."""
    low, high = np.full(len(rows), -1), np.full(len(rows), LAST_NIGHT)  # not below on `low`, below on `high`
    while (high - low > 1).any():
        middle = (low + high) // 2
        under = strength(channels, rows, middle) < bound
        low, high = np.where(under, low, middle), np.where(under, middle, high)
    return high
