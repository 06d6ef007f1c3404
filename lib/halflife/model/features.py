"""What the network sees of an event, in NumPy: the same numbers in training and in the nightly job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halflife.decay import SECONDS_PER_DAY

Matrix = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]

SECONDS_PER_HOUR: Final = 3_600.0
# Returns after about a week and about four weeks are habits of many logs: a bump of its own for each.
RHYTHMS_DAYS: Final = (7.0, 28.0)
# What of an event a jump, and a step of a sequence, is made of: columns of the table `events`.
EVENT_COLUMNS: Final = (
    "item_index",
    "type_index",
    "strength",
    "gap_seconds",
    "revisit_gap_seconds",
    "revisit_count",
    "session_position",
)
EVENT_FEATURES: Final = 7 + len(RHYTHMS_DAYS)
SEQUENCE_FEATURES: Final = 8


class EncoderInput(NamedTuple):
    """B rows of the encoder's input: (B, L) right-padded with zeros, features (B, L, F), lengths (B,).

    `age_days` counts from the row's last event; `days_since_last` from that event to the time that is asked for.
    """

    item: NDArray[np.int32]
    type: NDArray[np.int32]
    strength: Matrix
    features: Matrix
    age_days: Matrix
    length: NDArray[np.int32]
    days_since_last: Matrix


def event_features(
    gap_seconds: ArrayLike, revisit_gap_seconds: ArrayLike, revisit_count: ArrayLike, session_position: ArrayLike
) -> Matrix:
    """Inputs of the jump: how this event stands to the user's earlier events. (n,) arrays give (n, EVENT_FEATURES).

    `revisit_gap_seconds` is the time since this user's previous event on the same item, the silence that a revival
    ends; it counts only where `revisit_count` says that there was one. NaN gaps count as none.
    """
    count = np.asarray(revisit_count, dtype=np.float32)
    seen = (count > 0).astype(np.float32)
    gap_hours = np.nan_to_num(np.asarray(gap_seconds, dtype=np.float64)) / SECONDS_PER_HOUR
    silence_days = np.nan_to_num(np.asarray(revisit_gap_seconds, dtype=np.float64)) / SECONDS_PER_DAY
    silence = np.log1p(silence_days).astype(np.float32) * seen
    bumps = [np.exp(-np.abs(silence - np.log1p(days))) * seen for days in RHYTHMS_DAYS]
    columns = [
        1 - seen,
        silence,
        silence**2 / 4,
        np.log1p(count),
        (count == 1).astype(np.float32),
        np.log1p(gap_hours) / 3,
        np.log1p(np.asarray(session_position, dtype=np.float32)) / 3,
        *bumps,
    ]
    return _stacked(columns)


def event_features_of_sequences(columns: Arrays) -> Matrix:
    """The same from the columns of a sequence, whose gaps are ln(1 + seconds)."""
    return event_features(
        np.expm1(columns["gap_log"].astype(np.float64)),
        np.expm1(columns["revisit_gap_log"].astype(np.float64)),
        columns["revisit_count"],
        columns["session_position"],
    )


def sequence_features(columns: Arrays) -> Matrix:
    """Inputs of the encoder beside item and type, scaled to about 1: (..., L) columns give (..., L, SEQUENCE_FEATURES).

    Hour and weekday enter as points on a circle, so that 23 h is next to 0 h.
    """
    hour = columns["hour"] * np.float32(2 * np.pi / 24)
    weekday = columns["weekday"] * np.float32(2 * np.pi / 7)
    parts = [
        columns["gap_log"] / 8,
        columns["revisit_gap_log"] / 10,
        np.log1p(columns["revisit_count"]),
        np.log1p(columns["session_position"]) / 3,
        np.sin(hour),
        np.cos(hour),
        np.sin(weekday),
        np.cos(weekday),
    ]
    return _stacked(parts)


def encoder_input(columns: Arrays) -> EncoderInput:
    """The encoder's input from columns of `sequences` as (B, L) arrays; whatever stands in the padding is dropped."""
    length = columns["length"].astype(np.int32)
    seconds = columns["event_seconds"].astype(np.float64)
    last = seconds[np.arange(len(length)), np.maximum(length - 1, 0)]
    valid = np.arange(seconds.shape[1]) < length[:, None]
    return EncoderInput(
        item=np.where(valid, columns["item_index"], 0).astype(np.int32),
        type=np.where(valid, columns["type_index"], 0).astype(np.int32),
        strength=np.where(valid, columns["strength"], 0.0).astype(np.float32),
        features=np.where(valid[..., None], sequence_features(columns), np.float32(0)),
        age_days=np.where(valid, (last[:, None] - seconds) / SECONDS_PER_DAY, 0.0).astype(np.float32),
        length=length,
        days_since_last=np.zeros(len(length), dtype=np.float32),
    )


def _stacked(columns: list[NDArray[Any]]) -> Matrix:
    stacked: Matrix = np.stack(columns, axis=-1).astype(np.float32)
    return stacked
