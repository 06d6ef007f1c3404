"""User histories sliced into training batches, in NumPy.

An example is a user and a cut time: what happened before the cut is input, what follows within the horizon is
target. Nothing at or after the cut enters the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from halflife.decay import SECONDS_PER_DAY
from halflife.histories.sequences import FEATURES
from halflife.model.architecture import PACE_FEATURES
from halflife.model.batch import Batch, EventTable, Floats, Indexes, Pairs, Sessions, Targets, Users
from halflife.model.features import (
    EVENT_FEATURES,
    SEQUENCE_FEATURES,
    EncoderInput,
    event_features_of_sequences,
    sequence_features,
)

Times = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]

# The columns of `sequences` are what training reads, in the same types.
COLUMNS: Final = FEATURES


@dataclass(frozen=True)
class History:
    """One user's events, oldest first: `columns` holds COLUMNS as (n,) arrays, what is read of them follows."""

    columns: Columns
    user: int = -1  # its index, where that is known

    def __len__(self) -> int:
        return len(self.seconds)

    def before(self, seconds: float) -> History:
        """The events before an instant."""
        known = int(np.searchsorted(self.seconds, seconds, side="left"))
        return self if known == len(self) else History({n: c[:known] for n, c in self.columns.items()}, self.user)

    @property
    def seconds(self) -> Times:
        """Epoch seconds, ascending."""
        return self.columns["event_seconds"]

    @property
    def item(self) -> Indexes:
        """Item indexes."""
        return self.columns["item_index"]

    @property
    def type(self) -> Indexes:
        """Event types by their number."""
        return self.columns["type_index"]

    @property
    def strength(self) -> Floats:
        """Signed strengths."""
        return self.columns["strength"]

    @property
    def first_visit(self) -> NDArray[np.bool_]:
        """Whether an event is the user's first on its item."""
        return np.asarray(self.columns["revisit_count"] == 0)

    @property
    def session_start(self) -> NDArray[np.bool_]:
        """Whether an event is the first of its session."""
        return np.asarray(self.columns["session_position"] == 0)

    @cached_property
    def jump_features(self) -> Floats:
        """What the jump sees of each event, (n, EVENT_FEATURES)."""
        return event_features_of_sequences(self.columns)

    @cached_property
    def sequence_features(self) -> Floats:
        """What the encoder sees of each event, (n, SEQUENCE_FEATURES)."""
        return sequence_features(self.columns)


def history_of(row: Mapping[str, Any], before_seconds: float) -> History:
    """One row of the training table (columns of `sequences`), cut to its valid entries before `before_seconds`."""
    seconds = np.asarray(row["event_seconds"], dtype=np.float64)[: int(row["length"])]
    count = int(np.searchsorted(seconds, before_seconds, side="left"))
    # Copies: a slice would keep the whole row group that it was read with.
    columns = {name: np.array(row[name][:count], dtype=kind) for name, kind in COLUMNS.items()}
    return History(columns, int(row.get("user_index", -1)))


def random_cuts(
    history: History, count: int, first: float, last: float, recency_days: float, rng: np.random.Generator
) -> Times:
    """`count` random times in [first, last], none before the user's first event; empty where that leaves nothing.

    They thin out by half every `recency_days` back from `last`, and do not look where sessions start: a nightly
    score is asked for whether the user comes or not, and with cuts at session starts it came out 1.7 times
    too high (Complete Journey), the ranking being the same.
    """
    if not len(history):
        return np.empty(0)
    start = max(first, float(history.seconds[0]) + 1.0)
    if start >= last:
        return np.empty(0)
    scale = recency_days * SECONDS_PER_DAY
    oldest = np.exp2(-(last - start) / scale)
    # The inverse of the distribution function of an exponential cut off at `start`.
    return np.asarray(last + scale * np.log2(oldest + rng.random(count) * (1 - oldest)))


def pace(history: History, known: NDArray[Any]) -> Floats:
    """How fast a user lives, from the first `known` (C,) events, each number at least 1: (C, PACE_FEATURES) of about 1.

    The share of returns to an item and their mean silence, the mean gap between sessions, and how much there is. Means
    are of ln(1 + days): what a half-life of this user could be.
    """
    again, start = ~history.first_visit, history.session_start
    silence, gap = (log_days(history.columns[name]) for name in ("revisit_gap_log", "gap_log"))
    returns, sessions = np.cumsum(again)[known - 1], np.cumsum(start)[known - 1]
    columns = [
        returns / known,
        np.cumsum(silence * again)[known - 1] / np.maximum(returns, 1) / 3,
        np.cumsum(gap * start)[known - 1] / np.maximum(sessions, 1),
        np.log1p(known) / 5,
    ]
    numbers: Floats = np.stack(columns, axis=1).astype(np.float32)
    return numbers


def log_days(log_seconds: NDArray[np.float32]) -> NDArray[np.float64]:
    """ln(1 + days) from ln(1 + seconds)."""
    return np.asarray(np.log1p(np.expm1(log_seconds.astype(np.float64)) / SECONDS_PER_DAY))


def session_log_sizes(history: History) -> NDArray[np.float64]:
    """Logarithm of the number of events in each event's session: (n,)."""
    session = np.cumsum(history.session_start)
    return np.asarray(np.log(np.bincount(session)[session]))


def next_session(history: History, after: float, before: float) -> tuple[float, Indexes] | None:
    """Time and items of the user's first session that starts in [after, before); None without one or without a past.

    Items that it only cancels or skips are none of them, as in the targets; nothing from `before` on is seen.
    """
    history = history.before(before)
    starts = np.flatnonzero(history.session_start & (history.seconds >= after))
    if not len(starts) or not starts[0]:
        return None
    session = slice(starts[0], starts[1] if len(starts) > 1 else len(history))
    items = np.unique(history.item[session][history.strength[session] > 0])
    return (float(history.seconds[starts[0]]), items) if len(items) else None


def batch_of(
    histories: Sequence[History],
    cuts: Sequence[Times],
    sequence_length: int,
    horizon_days: float,
    futures: Sequence[History] | None = None,
) -> Batch:
    """Put users and their cut times (in epoch seconds) together; users without cuts add nothing.

    Targets are taken from `futures`, the users' histories as they were, where `histories` are augmented ones.
    """
    horizon = horizon_days * SECONDS_PER_DAY
    users = zip(histories, cuts, histories if futures is None else futures, strict=True)
    parts = [_UserPart(seen, times, horizon, future) for seen, times, future in users if len(times)]
    events = np.cumsum([0, *(part.events for part in parts)])
    pairs = np.cumsum([0, *(len(part.pair_item) for part in parts)])
    rows = np.cumsum([0, *(len(part.cuts) for part in parts)])
    last_pair = int(pairs[-1])
    return Batch(
        history=EventTable(
            features=_joined([p.history.jump_features[: p.events] for p in parts], np.float32, EVENT_FEATURES),
            item=_joined([p.history.item[: p.events] for p in parts], np.int32),
            type=_joined([p.history.type[: p.events] for p in parts], np.int32),
            strength=_joined([p.history.strength[: p.events] for p in parts], np.float32),
            term_event=_joined([p.term_event + o for p, o in zip(parts, events, strict=False)], np.int32),
            term_pair=_joined([p.term_pair + o for p, o in zip(parts, pairs, strict=False)], np.int32),
            term_age_days=_joined([p.term_age_days for p in parts], np.float32),
        ),
        pairs=Pairs(
            cut=_joined([p.pair_cut + o for p, o in zip(parts, rows, strict=False)], np.int32),
            item=_joined([p.pair_item for p in parts], np.int32),
            with_negative=_joined([p.with_negative + o for p, o in zip(parts, pairs, strict=False)], np.int32),
        ),
        cuts=_encoder_input(parts, sequence_length),
        targets=Targets(
            cut=_joined([p.target_cut + o for p, o in zip(parts, rows, strict=False)], np.int32),
            item=_joined([p.target_item for p in parts], np.int32),
            strength=_joined([p.target_strength for p in parts], np.float32),
            pair=_joined(
                [np.where(p.target_pair < 0, last_pair, p.target_pair + o) for p, o in zip(parts, pairs, strict=False)],
                np.int32,
            ),
        ),
        users=Users(
            pace=_joined([pace(p.history, p.known) for p in parts], np.float32, PACE_FEATURES),
            events=_joined([p.known for p in parts], np.float32),
        ),
        sessions=Sessions(
            delay_days=_joined([p.session_delay_days for p in parts], np.float32),
            items=_joined([p.session_items for p in parts], np.float32),
            pair=_joined([p.session_pair + o for p, o in zip(parts, pairs, strict=False)], np.int32),
            holds=_joined([p.session_holds for p in parts], np.float32),
        ),
    )


class _UserPart:
    """One user's share of a batch, counted from zero: the batch adds the offsets."""

    def __init__(self, history: History, cuts: Times, horizon_seconds: float, future: History) -> None:
        self.history = history
        self.cuts = cuts
        self.known = np.searchsorted(history.seconds, cuts, side="left")
        self.events = int(self.known.max())
        self._memory_terms()
        self._collect_targets(horizon_seconds, future)
        self._collect_sessions(future)

    def _memory_terms(self) -> None:
        """Terms, and pairs numbered cut by cut over the items known before the last cut."""
        self.items, place = np.unique(self.history.item[: self.events], return_inverse=True)
        seconds = self.history.seconds
        self.term_event = np.concatenate([np.arange(known) for known in self.known])
        cut = np.repeat(np.arange(len(self.cuts)), self.known)
        self.term_pair = cut * len(self.items) + place[self.term_event]
        self.term_age_days = (self.cuts[cut] - seconds[self.term_event]) / SECONDS_PER_DAY
        self.pair_cut = np.repeat(np.arange(len(self.cuts)), len(self.items))
        self.pair_item = np.tile(self.items, len(self.cuts))
        self.with_negative = np.unique(self.term_pair[self.history.strength[self.term_event] < 0])

    def _collect_targets(self, horizon_seconds: float, future: History) -> None:
        begins, ends = (future.seconds.searchsorted(self.cuts + after, side="left") for after in (0, horizon_seconds))
        cuts, items, strengths = [], [], []
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            positive = np.maximum(future.strength[begin:end], 0)
            chosen = positive > 0
            found, place = np.unique(future.item[begin:end][chosen], return_inverse=True)
            cuts.append(np.full(len(found), number))
            items.append(found)
            strengths.append(np.bincount(place, weights=positive[chosen], minlength=len(found)))
        self.target_cut = np.concatenate(cuts)
        self.target_item = np.concatenate(items)
        self.target_strength = np.concatenate(strengths)
        self.target_pair = self._pairs_of_targets()

    def _collect_sessions(self, future: History) -> None:
        """The first session that starts after each cut, and which of the items known at the cut it holds."""
        starts = np.append(np.flatnonzero(future.session_start), len(future))
        place = np.searchsorted(starts[:-1], future.seconds.searchsorted(self.cuts, side="left"))
        seen = np.zeros(len(self.pair_item), dtype=np.bool_)
        seen[self.term_pair] = True
        self.session_delay_days, self.session_items = np.zeros(len(self.cuts)), np.zeros(len(self.cuts))
        holds = np.zeros(len(self.pair_item))
        for cut, first in enumerate(place):
            pairs = slice(cut * len(self.items), (cut + 1) * len(self.items))
            chosen = slice(*starts[first : first + 2]) if first + 1 < len(starts) else slice(0)
            found = np.unique(future.item[chosen][future.strength[chosen] > 0])
            if not len(found):
                seen[pairs] = False
                continue
            self.session_delay_days[cut] = (future.seconds[chosen.start] - self.cuts[cut]) / SECONDS_PER_DAY
            self.session_items[cut] = len(found)
            place_of, known = self._known(found)
            holds[cut * len(self.items) + place_of[known]] = 1
        self.session_pair = np.flatnonzero(seen)
        self.session_holds = holds[seen]

    def _pairs_of_targets(self) -> NDArray[np.int64]:
        """Pair of each target, -1 where the user has no event on the item."""
        place, known = self._known(self.target_item)
        return np.where(known, self.target_cut * len(self.items) + place, -1)

    def _known(self, items: Indexes) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where among the user's items some would stand, and whether they do."""
        place = np.minimum(np.searchsorted(self.items, items), max(len(self.items) - 1, 0))
        return place, self.items[place] == items if len(self.items) else np.zeros(len(items), dtype=np.bool_)


def _encoder_input(parts: Sequence[_UserPart], length: int) -> EncoderInput:
    rows = sum(len(part.cuts) for part in parts)
    width = (rows, length)
    cuts = EncoderInput(
        item=np.zeros(width, dtype=np.int32),
        type=np.zeros(width, dtype=np.int32),
        strength=np.zeros(width, dtype=np.float32),
        features=np.zeros((*width, SEQUENCE_FEATURES), dtype=np.float32),
        age_days=np.zeros(width, dtype=np.float32),
        length=np.zeros(rows, dtype=np.int32),
        days_since_last=np.zeros(rows, dtype=np.float32),
    )
    row = 0
    for part in parts:
        history = part.history
        for cut, known in zip(part.cuts, part.known, strict=True):
            chosen = slice(max(0, known - length), known)
            count = chosen.stop - chosen.start
            cuts.item[row, :count] = history.item[chosen]
            cuts.type[row, :count] = history.type[chosen]
            cuts.strength[row, :count] = history.strength[chosen]
            cuts.features[row, :count] = history.sequence_features[chosen]
            cuts.age_days[row, :count] = (history.seconds[known - 1] - history.seconds[chosen]) / SECONDS_PER_DAY
            cuts.length[row] = count
            cuts.days_since_last[row] = (cut - history.seconds[known - 1]) / SECONDS_PER_DAY
            row += 1
    return cuts


def _joined(parts: Sequence[NDArray[Any]], kind: type[np.generic], *width: int) -> NDArray[Any]:
    if not parts:
        return np.empty((0, *width), dtype=kind)
    joined: NDArray[Any] = np.concatenate(parts).astype(kind, copy=False)
    return joined
