"""Nothing of the time after a cut is seen before it: whatever comes then, all that a model learns from is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from halflife.training import law
from halflife.training.batches import batch_of
from halflife.training.examples import History, history_of
from halflife.training.initial import count_items
from halflife.training.stretch import windows
from halflife.training.validation import ValidationUsers
from training_log import AS_OF, BEGIN, DAY, columns_of, row_of, user_events

CUT = BEGIN + 70 * DAY
ITEMS, LENGTH, HORIZON = 12, 16, 7.0
USERS = range(8)
GRID = (2.0, 7.0, 30.0)

# Days after the cut, items and strengths of what may come: within the session that goes on over the cut, or later.
Future = list[tuple[float, int, float]]
FUTURES = st.lists(
    st.tuples(st.floats(0, 30), st.integers(0, ITEMS - 1), st.sampled_from([1.0, 0.3, -0.5])), max_size=12
)


def history(user: int, future: Future) -> History:
    """A user's events before the cut, the last of them a minute before it, and a future."""
    known = user_events(user)
    chosen = known["event_seconds"] < CUT - 60
    days, items, strengths = (np.array(values) for values in zip(*sorted(future), strict=True)) if future else [()] * 3
    seconds = np.concatenate([known["event_seconds"][chosen], [CUT - 60], CUT + np.asarray(days) * DAY])
    item = np.concatenate([known["item_index"][chosen], [user], items]).astype(int)
    strength = np.concatenate([known["strength"][chosen], [1.0], strengths])
    order = np.argsort(seconds, kind="stable")
    return history_of({**row_of(columns_of(seconds[order], item[order], strength[order])), "user_index": user}, AS_OF)


def arrays_of(found: Any) -> list[NDArray[Any]]:
    """Every array of nested tuples."""
    return [found] if isinstance(found, np.ndarray) else [array for part in found for array in arrays_of(part)]


def examples(histories: list[History]) -> list[NDArray[Any]]:
    """What is input of the examples at the cut."""
    batch = batch_of(histories, [np.array([CUT])] * len(histories), LENGTH, HORIZON)
    return arrays_of((batch.history, batch.pairs, batch.cuts, batch.users))


def counts(histories: list[History]) -> list[NDArray[Any]]:
    """Popularity, repeat propensity, and what jumps see of the items."""
    found = count_items(histories, ITEMS, CUT)
    return [found.packed(), found.features, found.log_rates, found.log_propensity]


def half_life(histories: list[History]) -> list[NDArray[Any]]:
    """The law that the gate tunes before the validation days, which begin at the cut."""
    tuning, validation = ValidationUsers(), ValidationUsers()
    for place, user in enumerate(histories):
        tuning.add(user, CUT - 21 * DAY, CUT, HORIZON, place)
        validation.add(user, CUT, CUT + 28 * DAY, HORIZON, place)
    before = np.exp(count_items(histories, ITEMS, CUT - 21 * DAY).log_rates[:-1])
    found = law.tuned(tuning, validation, (before, before), GRID, HORIZON, lambda values: values)
    return [np.array([found.half_life_days, found.weight, found.floor])]


def validation_inputs(histories: list[History]) -> list[NDArray[Any]]:
    """What is known at the first midnight of the validation days."""
    users = ValidationUsers()
    for user in histories:
        users.add(user, CUT, CUT + 28 * DAY, HORIZON, 0)
    batch = batch_of(
        [user for user, _ in users.midnights], [np.array([cut]) for _, cut in users.midnights], LENGTH, 7.0
    )
    return arrays_of((batch.history, batch.pairs, batch.cuts, batch.users))


def stretch_windows(histories: list[History]) -> list[NDArray[Any]]:
    """The windows of the user's own past that a stretch is estimated from, as of the cut."""
    return [windows(user, CUT, HORIZON) for user in histories]


SEEN = [examples, counts, half_life, validation_inputs, stretch_windows]


def same(left: list[NDArray[Any]], right: list[NDArray[Any]]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: seen.__name__)
@settings(max_examples=12, deadline=None)
@given(futures=st.lists(FUTURES, min_size=len(USERS), max_size=len(USERS)))
def test_no_future_changes_what_is_seen(seen: Callable[[list[History]], Any], futures: list[Future]) -> None:
    known = [history(user, []) for user in USERS]
    assert same(seen([history(user, future) for user, future in zip(USERS, futures, strict=True)]), seen(known))


@pytest.mark.parametrize("seen", [examples, counts, half_life, validation_inputs], ids=lambda seen: seen.__name__)
def test_a_planted_leak_is_caught(seen: Callable[[list[History]], Any]) -> None:
    """Events of the future that are dated before the cut: what the property above would not let pass."""
    known = [history(user, []) for user in USERS]
    leaked = [history(user, [(-12.0, (user + 5) % ITEMS, 1.0), (-11.0, (user + 5) % ITEMS, 1.0)]) for user in USERS]
    assert not same(seen(leaked), seen(known))
