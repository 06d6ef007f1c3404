"""The memory's monoid in NumPy: the leading event, and the night on which a memory has faded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from halflife import memory
from halflife.decay import Floats, decay_integral
from halflife.memory import MICROS_PER_DAY, NEVER, Pace, States

PACE = Pace(np.array([1 / 24, 7.0, 90.0]), horizon_days=7.0, retained_share=0.25, silence_days=30.0)
BELOW = 0.01
NOON = MICROS_PER_DAY // 2

values = st.floats(0, 3).map(lambda value: round(value, 3))
channels = st.tuples(values, values, values)
event = st.tuples(st.integers(0, 200 * 24), channels, channels, st.integers(0, 4))


def states(events: list[tuple[int, tuple[float, ...], tuple[float, ...], int]]) -> States:
    """Events at hours as single states, in the order of time."""
    hours, positive, negative, kinds = (np.array(column) for column in zip(*sorted(events), strict=True))
    time = hours.astype(np.int64) * (MICROS_PER_DAY // 24) + NOON
    jumps = positive.astype(np.float64)
    return States(
        time=time,
        events=np.ones(len(time), dtype=np.int64),
        revived=np.zeros(len(time), dtype=bool),
        positive=jumps,
        negative=negative.astype(np.float64),
        leading_time=time,
        leading_type=kinds.astype(np.int32),
        leading=jumps,
    )


def strength(state: States, days: ArrayLike) -> Floats:
    """Expected strength of a single state at times, in days after 1970."""
    ages = np.asarray(days) - state.time[0] / MICROS_PER_DAY
    weights = decay_integral(ages, PACE.half_lives_days, PACE.horizon_days)
    total: Floats = ((state.positive - state.negative)[0] * weights).sum(axis=-1)
    return total


def same(these: States, those: States) -> bool:
    pairs = zip(these.__dict__.values(), those.__dict__.values(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@settings(max_examples=60, deadline=None)
@given(st.lists(event, min_size=2, max_size=12, unique_by=lambda e: e[0]), st.data())
def test_nights_one_by_one_are_one_rebuild_whatever_else_is_added_up_beside(events: list, data: st.DataObject) -> None:  # type: ignore[type-arg]
    everything = states(events)
    cut = data.draw(st.integers(1, len(events) - 1))
    # Other pairs in the same call: a sum must not depend on how many there are.
    beside = np.concatenate([np.arange(len(events)), np.arange(len(events)), np.arange(len(events))])
    rebuilt = memory.fold(everything.at(beside), np.array([len(events)] * 3), PACE)
    night = memory.fold(everything.at(np.arange(cut)), np.array([cut]), PACE)
    rest = everything.at(np.arange(cut, len(events)))
    joined = States(
        *(np.concatenate(both) for both in zip(night.__dict__.values(), rest.__dict__.values(), strict=True))
    )
    after = memory.fold(joined, np.array([len(events) - cut + 1]), PACE)
    for place in range(3):
        assert same(after, rebuilt.at(np.array([place])))


def test_the_leading_event_is_the_one_that_promises_most_when_the_last_came() -> None:
    none = (0, 0, 0)
    old, recent, weak = (0, (0, 0, 2.0), none, 3), (240, (0, 1.0, 0), none, 1), (264, (0.1, 0, 0), none, 2)
    merged = memory.fold(states([old, recent, weak]), np.array([3]), PACE)
    assert merged.leading_type.tolist() == [3]
    assert merged.leading.tolist() == [[0, 0, 2.0]]
    stronger = (288, (0, 0, 5.0), none, 0)
    assert memory.fold(states([old, recent, weak, stronger]), np.array([4]), PACE).leading_type.tolist() == [0]


def test_a_negative_event_does_not_lead() -> None:
    merged = memory.fold(states([(0, (1.0, 0, 0), (0, 0, 0), 1), (24, (0, 0, 0), (0, 5.0, 0), 2)]), np.array([2]), PACE)
    assert merged.leading_type.tolist() == [1]


@settings(max_examples=150, deadline=None)
@given(event)
def test_a_memory_has_faded_from_the_first_night_on_which_it_stays_below(
    found: tuple[int, tuple[float, ...], tuple[float, ...], int],
) -> None:
    state = states([found])
    (night,) = memory.faded_on(state, PACE, BELOW)
    first = int(state.time[0] // MICROS_PER_DAY) + 1
    nights = np.arange(first, first + 3_000)
    above = np.flatnonzero(strength(state, nights) >= BELOW)
    if above.size:
        assert night == nights[above[-1]] + 1
    else:
        assert night == (first if strength(state, state.time[0] / MICROS_PER_DAY) >= BELOW else NEVER)


@pytest.mark.parametrize(
    ("positive", "negative", "rises"),
    [((0, 0, 1.0), (0, 0.9, 0), True), ((0, 0, 0), (0, 0, 1.0), False), ((0, 1.0, 0), (0, 0, 1.0), False)],
)
def test_what_an_event_took_away_may_come_back(
    positive: tuple[float, ...], negative: tuple[float, ...], rises: bool
) -> None:
    """A quick negative part hides a slow positive one for some days: not faded until that is gone as well."""
    (night,) = memory.faded_on(states([(0, positive, negative, 0)]), PACE, BELOW)
    assert (night > 300) == rises


def test_half_lives_give_the_night_in_closed_form() -> None:
    pace = Pace(np.array([10.0]), horizon_days=1.0, retained_share=0.25, silence_days=30.0)
    one = states([(0, (1.0, 0, 0), (0, 0, 0), 0)])
    single = States(*(c[:, :1] if c.ndim == 2 else c for c in one.__dict__.values()))
    promised = decay_integral(0.0, [10.0], 1.0)[0]
    # From noon: below a 1024th after more than 100 days, so first on the midnight half a day later.
    assert memory.faded_on(single, pace, promised / 1024 * (1 + 1e-9)).tolist() == [101]
    assert memory.faded_on(single, pace, promised * 1.01).tolist() == [NEVER]
