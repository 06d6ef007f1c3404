"""The half-life that is fitted for the classical law, on a log that was made by it."""

from __future__ import annotations

import numpy as np
import pytest

from halflife.synthetic import EXPONENTIAL, SyntheticLog, generate
from halflife.training.examples import History
from halflife.training.fit import Returns, fitted_half_life
from synthetic_histories import end_of, histories_of
from training_log import AS_OF, BEGIN, DAY, columns_of

USERS, ITEMS, DAYS = 200, 60, 150


@pytest.fixture(scope="module")
def log() -> SyntheticLog:
    return generate(EXPONENTIAL, USERS, ITEMS, DAYS, seed=3)


@pytest.fixture(scope="module")
def histories(log: SyntheticLog) -> list[History]:
    return histories_of(log)


def test_the_classical_law_recovers_its_one_half_life(log: SyntheticLog, histories: list[History]) -> None:
    found = fitted_half_life(histories, ITEMS, end_of(log), 90.0)
    assert found == pytest.approx(EXPONENTIAL.half_life_days, rel=0.05)


def test_what_happens_after_the_night_changes_nothing(log: SyntheticLog, histories: list[History]) -> None:
    night = end_of(log) - 60 * DAY
    before = [
        History({name: column[: np.searchsorted(user.seconds, night)] for name, column in user.columns.items()})
        for user in histories
    ]
    assert fitted_half_life(histories, ITEMS, night, 90.0) == fitted_half_life(before, ITEMS, night, 90.0)
    assert fitted_half_life(histories, ITEMS, night, 90.0) != fitted_half_life(histories, ITEMS, end_of(log), 90.0)


def test_memory_before_each_event_is_the_decayed_sum_of_the_pairs_earlier_ones() -> None:
    days, items = np.array([0.0, 1.0, 3.0, 4.0, 8.0]), np.array([2, 5, 2, 2, 5])
    strength = np.array([1.0, 2.0, 0.5, -1.0, 1.0])  # what is taken back is left out
    history = History(columns_of(BEGIN + days * DAY, items, strength))
    returns = Returns.of([history], 7, BEGIN + 10 * DAY)
    np.testing.assert_allclose(returns.memory(2.0), [0, 2**-1.5, 0, 2 * 2**-3.5])
    np.testing.assert_allclose(returns.age_days, [10, 7, 9, 2])
    assert returns.pair_days == 70


def test_a_log_without_a_return_leaves_the_half_life_that_was_given() -> None:
    once = History(columns_of(BEGIN + np.arange(3) * DAY, np.arange(3), np.ones(3)))
    assert fitted_half_life([once], 3, AS_OF, 42.0) == 42.0
