"""What one training step reads: the flat tables of a batch, NumPy arrays outside TensorFlow and tensors within."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from halflife.model.features import EncoderInput

Floats = NDArray[np.float32]
Indexes = NDArray[np.int32]


class EventTable(NamedTuple):
    """The events of a batch's users (N,), and the (event, cut) terms that memory sums over (M,)."""

    features: Floats
    item: Indexes
    type: Indexes
    strength: Floats
    term_event: Indexes
    term_pair: Indexes
    term_age_days: Floats


class Pairs(NamedTuple):
    """The (cut, item) pairs that have memory (P,), and which of them hold a negative event."""

    cut: Indexes
    item: Indexes
    with_negative: Indexes


class Targets(NamedTuple):
    """Positive strength by (cut, item) within the horizon (Y,); `pair` is its place in Pairs, or their number."""

    cut: Indexes
    item: Indexes
    strength: Floats
    pair: Indexes


class Users(NamedTuple):
    """How fast each cut's user lived before it: (C, PACE_FEATURES), and from how many events that is known, (C,)."""

    pace: Floats
    events: Floats


class Sessions(NamedTuple):
    """The next session after each cut: days until it starts and how many items it holds, (C,); no items: none is known.

    `pair` (S,) are the places in Pairs of the items that such a cut's user had touched before it, cut by cut, and
    `holds` (S,) is 1 where the session holds the item, else 0.
    """

    delay_days: Floats
    items: Floats
    pair: Indexes
    holds: Floats


class Batch(NamedTuple):
    """What one step reads."""

    history: EventTable
    pairs: Pairs
    cuts: EncoderInput
    targets: Targets
    users: Users
    sessions: Sessions
