"""The model's scorer against the intensity written out pair by pair."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from halflife.decay import SECONDS_PER_DAY, decay, decay_integral
from halflife.evaluation.scorer import ModelScorer

HALF_LIVES = np.array([7.0, 90.0])
HORIZON_DAYS = 7.0
DAY = SECONDS_PER_DAY

random = np.random.default_rng(3)
SCORER = ModelScorer(
    half_lives_days=HALF_LIVES,
    horizon_days=HORIZON_DAYS,
    bias=random.normal(-3, 1, 6).astype(np.float32),
    vectors=random.normal(0, 1, (6, 4)).astype(np.float32),
)
USERS = np.array([8, 3, 5])
AT_SECONDS = np.array([100.0, 101.0, 102.5]) * DAY
# User 5 has no state yet: Spark's null.
STATES = pd.DataFrame(
    {
        "user_index": USERS,
        "anchor_seconds": [90.0 * DAY, 80.0 * DAY, np.nan],
        "readouts": [random.normal(0, 1, 8), random.normal(0, 1, 8), None],
    }
)
# User 4 is of another block, item 5 is not among the ranked.
MEMORY = pd.DataFrame(
    {
        "user_index": [3, 8, 4, 8, 3],
        "item_index": [0, 2, 1, 5, 4],
        "anchor_seconds": np.array([70.0, 90.0, 50.0, 60.0, 80.0]) * DAY,
        "positive": [np.array([1.0, 2.0])] * 5,
        "negative": [np.array([0.0, 0.5])] * 5,
    }
)
ITEMS = np.array([4, 0, 2, 1, 3])


def expected(user: int, item: int) -> float:
    row = int(np.flatnonzero(user == USERS)[0])
    at, state = AT_SECONDS[row], STATES.iloc[row]
    logit = float(SCORER.bias[item])
    if state["readouts"] is not None:
        age = (at - state["anchor_seconds"]) / DAY + HORIZON_DAYS / 2
        logit += decay(age, HALF_LIVES) @ state["readouts"].reshape(2, 4) @ SCORER.vectors[item]
    strength = HORIZON_DAYS * float(np.exp(logit))
    for _, pair in MEMORY[(MEMORY["user_index"] == user) & (MEMORY["item_index"] == item)].iterrows():
        age = (at - pair["anchor_seconds"]) / DAY
        strength += float(decay_integral(age, HALF_LIVES, HORIZON_DAYS) @ (pair["positive"] - pair["negative"]))
    return strength


def test_scores_are_affinity_plus_memory_at_each_users_own_instant() -> None:
    scores = SCORER(USERS, AT_SECONDS, ITEMS, STATES, MEMORY)
    assert scores.shape == (3, 5)
    oracle = [[expected(user, item) for item in ITEMS] for user in USERS]
    assert scores == pytest.approx(np.array(oracle), rel=1e-4)


def test_a_block_without_memory_has_affinity_only() -> None:
    scores = SCORER(USERS, AT_SECONDS, ITEMS, STATES, MEMORY.iloc[:0])
    assert scores[2] == pytest.approx(HORIZON_DAYS * np.exp(SCORER.bias[ITEMS]), rel=1e-5)
