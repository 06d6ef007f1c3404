"""The remembered pairs of users, packed for their way to the tasks that score them.

A pair of the memory table has some twenty numbers; tonight only what is left of them counts: 32 bytes a pair.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from halflife import arrow
from halflife.decay import SECONDS_PER_DAY, Floats
from halflife.scoring import pairs

# What is taken from the memory of a pair.
COLUMNS: Final = (
    "user_index",
    "item_index",
    "anchor_time",
    "positive",
    "negative",
    "event_count",
    "leading_time",
    "leading_type",
    "leading",
)
# One entry is a pair tonight: its expected strength over the horizon, and that of its leading event.
PAIR: Final = np.dtype(
    [
        ("item_index", np.int32),
        ("leading_type", np.int32),
        ("leading_day", np.int32),  # since 1970
        ("event_count", np.int32),
        ("strength", np.float64),
        ("leading_strength", np.float64),
    ]
)
Pairs = NDArray[np.void]


def pack(memory: pa.RecordBatch, at_seconds: float, half_lives_days: Floats, horizon_days: float) -> Pairs:
    """Rows of the memory table (COLUMNS) as of an instant."""
    anchor, leading_time = (arrow.seconds(memory.column(name)) for name in ("anchor_time", "leading_time"))
    channels = [arrow.matrix(memory.column(name), len(half_lives_days)) for name in ("positive", "negative", "leading")]
    positive, negative, leading = channels
    packed = np.empty(memory.num_rows, dtype=PAIR)
    packed["item_index"] = memory.column("item_index").to_numpy(zero_copy_only=False)
    packed["leading_type"] = memory.column("leading_type").to_numpy(zero_copy_only=False)
    packed["leading_day"] = leading_time // SECONDS_PER_DAY
    packed["event_count"] = memory.column("event_count").to_numpy(zero_copy_only=False)
    packed["strength"] = pairs.strength(positive - negative, at_seconds - anchor, half_lives_days, horizon_days)
    packed["leading_strength"] = pairs.strength(leading, at_seconds - leading_time, half_lives_days, horizon_days)
    return packed
