"""How much an event counts."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from halflife.config import StrengthConfig
from halflife.transformations import strength
from raw_records import DATED, TYPES, raw, record

TEN_POINTS = DATED.model_copy(update={"rating_scale": (0.0, 10.0)})
CONFIG = StrengthConfig(
    dwell_reference_seconds=60.0, dwell_cap_seconds=420.0, rating_factors=(0.5, 1.5), quantity_cap=7.0
)
CASES: list[tuple[dict[str, Any], float]] = [
    ({}, 1.0),
    ({"event_type": "buy"}, 3.0),
    ({"event_type": "cancel"}, -2.0),
    ({"dwell_seconds": 60.0}, 1.0),
    ({"dwell_seconds": 0.0}, 0.0),
    ({"dwell_seconds": 180.0}, 2.0),
    ({"dwell_seconds": 420.0}, 3.0),
    ({"dwell_seconds": 80_000.0}, 3.0),
    ({"rating": 1.0}, 0.5),
    ({"rating": 3.0}, 1.0),
    ({"rating": 5.0}, 1.5),
    ({"rating": 5.0, "source": "ten"}, 1.0),
    ({"rating": 0.0, "source": "ten"}, 0.5),
    ({"quantity": 1.0}, 1.0),
    ({"quantity": 3.0}, 2.0),
    ({"quantity": 7.0}, 3.0),
    ({"quantity": 1e9}, 3.0),
    ({"quantity": -3.0}, -2.0),  # a return
    ({"quantity": -3.0, "event_type": "cancel"}, -4.0),
    ({"quantity": 3.0, "event_type": "cancel"}, -4.0),
    ({"event_type": "buy", "dwell_seconds": 180.0, "rating": 5.0, "quantity": -7.0}, -27.0),
]


def test_strength_is_the_signed_weight_times_the_factors_of_dwell_rating_and_quantity(spark: SparkSession) -> None:
    frame = raw(spark, *(record(**change) for change, _ in CASES))
    rows = strength.with_strength(frame, TYPES, CONFIG, {"log": DATED, "ten": TEN_POINTS}).collect()
    for row, (change, expected) in zip(rows, CASES, strict=True):
        assert row["strength"] == pytest.approx(expected, rel=1e-12), change
        assert row["type_index"] == list(TYPES).index(change.get("event_type", "view"))
