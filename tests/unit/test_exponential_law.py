"""The classical law, through the code that scores: its worked example, and the decayed counts of SAR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from halflife.decay import LN2, Floats, decay_integral
from halflife.memory import MICROS_PER_DAY, Pace, States, fold
from halflife.model import artifact
from halflife.scoring import pairs

DAY = 86_400.0


def law(folder: Path, half_life_days: float) -> artifact.Model:
    return artifact.exponential(
        folder / "law",
        half_life_days=half_life_days,
        horizon_days=1.0,
        sequence_length=5,
        items=pd.DataFrame({"item_index": [0], "item_id": ["a"], "category": [None]}),
        event_types=["view"],
        as_of_seconds=0.0,
        config={},
    )


def intensity(model: artifact.Model, days: list[float], strengths: list[float], now_days: float) -> float:
    """Interest at a time from events of one pair: the strength over the horizon, by that of a unit that begins."""
    time = (np.array(days) * MICROS_PER_DAY).astype(np.int64)
    count = len(days)
    jumps = model.jumps({"strength": np.array(strengths)})
    kinds = np.zeros(count, dtype=np.int32)
    none = np.zeros(count, dtype=bool)
    events = States(time, np.ones(count, dtype=np.int64), none, jumps, 0 * jumps, time, kinds, jumps)
    pace = Pace(model.half_lives_days, model.horizon_days, retained_share=0.25, silence_days=30.0)
    state = fold(events, np.array([count]), pace)
    ages: Floats = now_days * DAY - state.time / 1e6
    (strength,) = pairs.strength(state.positive, ages, model.half_lives_days, model.horizon_days)
    return float(strength / decay_integral(0.0, model.half_lives_days, model.horizon_days)[0])


@pytest.mark.parametrize(("day", "expected"), [(0, 10.0), (1, 9.048), (2, 8.187), (3, 7.408)])
def test_the_worked_example(tmp_path: Path, day: int, expected: float) -> None:
    """I(0) = 10, lambda = 0.1 a day (the model keeps its half-life as float32)."""
    assert intensity(law(tmp_path, LN2 / 0.1), [0.0], [10.0], day) == pytest.approx(expected, abs=5e-4)


def test_the_decayed_counts_of_sar(tmp_path: Path) -> None:
    """Affinity of SAR (Microsoft recommenders): sum of w 2^(-(t - t_e) / T), here with T = 30 days."""
    random = np.random.default_rng(2)
    days, weights = np.sort(random.uniform(0, 200, 40)), random.integers(1, 6, 40).astype(float)
    expected = (weights * 2 ** (-(210 - days) / 30)).sum()
    assert intensity(law(tmp_path, 30.0), days.tolist(), weights.tolist(), 210.0) == pytest.approx(expected, rel=1e-9)
