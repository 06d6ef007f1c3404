"""Interest by category is the sum over its items; a trend says what the nights before it say."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from halflife.scoring.rollups import NIGHTS, Categories, status, trend

NIGHT = date(2026, 3, 1)


@settings(deadline=None)  # the first call imports
@given(
    arrays.arrays(np.float32, (3, 7), elements=st.floats(0, 8, width=32)),
    arrays.arrays(np.int32, 7, elements=st.integers(-1, 3)),
)
def test_a_users_interest_in_a_category_is_the_sum_over_its_items(expected: np.ndarray, category: np.ndarray) -> None:
    categories = Categories(["a", "b", "c", "d"], category)
    rows = categories.interest(pa.array(["x", "y", "z"]), categories.strength(expected)).to_pylist()
    assert len(rows) == 3 * len(set(category[category >= 0])), "only categories that have items"
    for row in rows:
        of_category = expected["xyz".index(row["user_id"]), category == "abcd".index(row["category"])]
        assert row["strength"] == pytest.approx(of_category.sum(dtype=np.float64), rel=1e-6)
        assert row["score"] == pytest.approx(-np.expm1(-of_category.sum(dtype=np.float64)), abs=1e-6)
        assert row["score"] < 1


def test_without_categories_there_is_no_row() -> None:
    nothing = Categories([], np.full(2, -1, dtype=np.int32))
    strength = nothing.strength(np.ones((1, 2), dtype=np.float32))
    assert nothing.interest(pa.array(["x"]), strength).num_rows == 0


def test_each_night_goes_on_from_what_the_last_one_published() -> None:
    published: dict[str, list[float | None]] = {}
    for night in range(1, NIGHTS + 6):
        before = NIGHT + timedelta(days=night - 1) if night > 1 else None
        (row,) = trend(NIGHT + timedelta(days=night), {"tea": (float(night), 3)}, published, before)
        _, strength, users, change_1, change_30, _, strengths = row
        published = {"tea": strengths}
        assert (strength, users) == (night, 3)
        assert change_1 == (None if night == 1 else pytest.approx(1 / (night - 1)))
        assert change_30 == (None if night <= NIGHTS else pytest.approx(NIGHTS / (night - NIGHTS)))
        assert len(strengths) == NIGHTS + 1


def test_nights_that_were_not_scored_and_new_categories_are_unknown() -> None:
    rows = trend(date(2026, 3, 4), {"tea": (2.0, 1), "soap": (1.0, 0)}, {"tea": [1.0, None]}, NIGHT)
    assert [(row[0], row[3], row[5]) for row in rows] == [("soap", None, None), ("tea", None, "rising")]
    assert rows[1][6][:5] == [2.0, None, None, 1.0, None]


@pytest.mark.parametrize(
    ("strengths", "expected"),
    [
        ([1.2, 1.1, 1.0], "rising"),
        ([0.8, 0.9, 1.0], "fading"),
        ([1.05, 1.0, 1.0], "steady"),
        ([0.95, 0.7, 1.0], "revived"),
        ([1.5, 0.7, 1.0], "revived"),
        ([0.8, 0.7, 1.0], "fading"),
        ([0.0, 0.0], "steady"),
        ([5.0, 3.0, 0.0], "rising"),
        ([1.2, None, None], None),
        ([1.2, None, 1.0], "rising"),
    ],
)
def test_the_status_is_by_the_documented_rule(strengths: list[float | None], expected: str | None) -> None:
    assert status(strengths) == expected
