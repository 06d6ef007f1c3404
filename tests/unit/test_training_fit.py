"""The half-life that is fitted for the classical law, on a log that was made by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from halflife.config import Config
from halflife.model import artifact
from halflife.synthetic import EXPONENTIAL, SyntheticLog, generate
from halflife.training import launch
from halflife.training.examples import History
from halflife.training.fit import Returns, fitted_half_life
from halflife.training.leftovers import Keep
from synthetic_histories import end_of, histories_of
from training_log import AS_OF, BEGIN, DAY, columns_of, row_of, write_rows

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


def test_the_train_function_publishes_the_fitted_half_life_where_the_config_asks_for_it(
    log: SyntheticLog, histories: list[History], tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows", [row_of(history.columns) for history in histories], [120, 80])
    items = pd.DataFrame({"item_index": range(ITEMS), "item_id": log.items["item_id"], "category": None})
    tree = {
        "warehouse": "unused",
        "sources": {"log": {"path": "unused", "event_type": "buy", "columns": {"user": "u", "item": "i", "time": "t"}}},
        "event_types": {"buy": {"weight": 1.0}},
    }
    for fit, expected in ((False, 30.0), (True, pytest.approx(EXPONENTIAL.half_life_days, rel=0.05))):
        model = {"kind": "exponential", "half_life_days": 30.0, "fit_half_life": fit}
        config, work = Config.model_validate({**tree, "model": model}), tmp_path / str(fit)
        # No rank is launched, so no Spark is needed.
        spark: Any = None
        trained = launch.train_model(
            spark, tmp_path / "rows", items, ["buy"], end_of(log), config, work, lambda *_: None, Keep(work)
        )
        assert artifact.load(trained.directory).half_lives_days == expected
