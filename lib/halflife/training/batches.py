"""Users and cut times brought to the flat tables of one training step, all users at once, in NumPy.

Nothing at or after a cut enters its input. A user at a time, this took as long as a quarter of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from halflife.decay import SECONDS_PER_DAY
from halflife.model.batch import Batch, EventTable, Pairs, Sessions, Targets, Users
from halflife.model.features import SEQUENCE_FEATURES, EncoderInput
from halflife.training.examples import COLUMNS, History, Times, pace

Places = NDArray[np.int64]


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
    users = zip(histories, cuts, histories if futures is None else futures, strict=True)
    examples = _examples([user for user in users if len(user[1])], horizon_days * SECONDS_PER_DAY)
    remembered = _Remembered(examples)
    return Batch(
        history=remembered.events(),
        pairs=remembered.pairs(),
        cuts=_encoder_input(examples, sequence_length),
        targets=_targets(examples, remembered),
        users=Users(pace(examples.past, examples.known, examples.first), examples.known.astype(np.float32)),
        sessions=_sessions(examples, remembered),
    )


@dataclass(frozen=True)
class _Examples:
    """C cuts: their user, their time, and where in `past` the user's `known` events before it begin, (C,) each.

    `past` are the users' events up to their last cut, `future` all that they have, one user after the other; in it
    (C,) the places of the first event that is not before a cut, of the first one behind the cut's horizon, and of the
    next user's first.
    """

    past: History
    future: History
    user: Places
    seconds: Times
    first: Places
    known: Places
    future_begin: Places
    horizon_end: Places
    future_end: Places

    @property
    def items(self) -> int:
        """One more than the largest item index."""
        return 1 + int(max(self.past.item.max(initial=0), self.future.item.max(initial=0)))

    @cached_property
    def terms(self) -> tuple[Places, Places]:
        """Cut and event in `past` of each (cut, event before it), (M,) each."""
        return _ranges(self.first, self.first + self.known)


class _Remembered:
    """The (user, item) pairs of the past, by user and item, and the (cut, item) pairs that they give, cut by cut."""

    def __init__(self, examples: _Examples) -> None:
        self.examples = examples
        self.items = examples.items
        cut_of_user = np.flatnonzero(np.diff(examples.user, prepend=-1))
        counts = np.diff(np.append(examples.first[cut_of_user], len(examples.past)))
        user = np.repeat(np.arange(len(cut_of_user)), counts)
        self.keys, self.place = np.unique(user * self.items + examples.past.item, return_inverse=True)
        begins = np.searchsorted(self.keys, np.arange(len(cut_of_user) + 1) * self.items)
        self.first, self.last = begins[:-1][examples.user], begins[1:][examples.user]
        counted = self.last - self.first
        # A pair's number is its user's place among the keys plus what the cut adds.
        self.shift = np.cumsum(counted) - counted - self.first
        self.cut, key = _ranges(self.first, self.last)
        self.item = self.keys[key] % self.items
        cut, event = examples.terms
        self.term_pair = self.place[event] + self.shift[cut]

    def __len__(self) -> int:
        return len(self.cut)

    def events(self) -> EventTable:
        """What memory sums over."""
        past, (cut, event) = self.examples.past, self.examples.terms
        age_days = (self.examples.seconds[cut] - past.seconds[event]) / SECONDS_PER_DAY
        return EventTable(
            features=past.jump_features,
            item=past.item,
            type=past.type,
            strength=past.strength,
            term_event=event.astype(np.int32),
            term_pair=self.term_pair.astype(np.int32),
            term_age_days=age_days.astype(np.float32),
        )

    def pairs(self) -> Pairs:
        """The pairs as a batch holds them."""
        negative = self.examples.past.strength[self.examples.terms[1]] < 0
        with_negative = np.unique(self.term_pair[negative])
        return Pairs(self.cut.astype(np.int32), self.item.astype(np.int32), with_negative.astype(np.int32))

    def pair(self, cut: Places, item: NDArray[Any]) -> Places:
        """The number of each (cut, item), that of all pairs where the cut's user has no event on the item."""
        key = self.examples.user[cut] * self.items + item
        place = np.searchsorted(self.keys, key)
        known = np.append(self.keys, -1)[place] == key
        return np.where(known, place + self.shift[cut], len(self))


def _examples(users: Sequence[tuple[History, Times, History]], horizon_seconds: float) -> _Examples:
    known = [history.seconds.searchsorted(cuts) for history, cuts, _ in users]
    counts, future_counts = [int(before.max()) for before in known], [len(future) for *_, future in users]
    first, future_first = np.cumsum([0, *counts]), np.cumsum([0, *future_counts])
    user = np.repeat(np.arange(len(users)), [len(cuts) for _, cuts, _ in users])
    begin, end = (
        _flat([future.seconds.searchsorted(cuts + later) for _, cuts, future in users], np.int64)
        for later in (0, horizon_seconds)
    )
    return _Examples(
        past=_joined([history for history, *_ in users], counts),
        future=_joined([future for *_, future in users], future_counts),
        user=user,
        seconds=_flat([cuts for _, cuts, _ in users], np.float64),
        first=first[user],
        known=_flat(known, np.int64),
        future_begin=future_first[user] + begin,
        horizon_end=future_first[user] + end,
        future_end=future_first[user + 1],
    )


def _joined(histories: Sequence[History], counts: Sequence[int]) -> History:
    """The first `counts` events of each history, one history after the other."""
    parts = list(zip(histories, counts, strict=True))
    return History(
        {name: _flat([part.columns[name][:count] for part, count in parts], kind) for name, kind in COLUMNS.items()}
    )


def _flat(parts: Sequence[NDArray[Any]], kind: DTypeLike) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=kind), *parts])


def _targets(examples: _Examples, remembered: _Remembered) -> Targets:
    cut, event = _ranges(examples.future_begin, examples.horizon_end)
    positive = examples.future.strength[event] > 0
    cut, event = cut[positive], event[positive]
    keys, place = np.unique(cut * remembered.items + examples.future.item[event], return_inverse=True)
    cuts, items = np.divmod(keys, remembered.items)
    strength = np.bincount(place, weights=examples.future.strength[event], minlength=len(keys))
    pair = remembered.pair(cuts, items)
    return Targets(cuts.astype(np.int32), items.astype(np.int32), strength.astype(np.float32), pair.astype(np.int32))


def _sessions(examples: _Examples, remembered: _Remembered) -> Sessions:
    """The first session that starts after each cut, and which of the items known at the cut it holds."""
    future = examples.future
    starts = np.append(np.flatnonzero(future.session_start), [len(future)] * 2)
    place = np.searchsorted(starts[:-2], examples.future_begin)
    begin, end = (np.minimum(starts[place + after], examples.future_end) for after in (0, 1))
    cut, event = _ranges(begin, end)
    positive = future.strength[event] > 0
    cut, item = np.divmod(np.unique(cut[positive] * remembered.items + future.item[event[positive]]), remembered.items)
    items = np.bincount(cut, minlength=len(begin))
    delay = np.append(future.seconds, 0.0)[begin] - examples.seconds
    holds, seen = np.zeros(len(remembered) + 1, np.float32), np.zeros(len(remembered), np.bool_)
    holds[remembered.pair(cut, item)] = 1
    seen[remembered.term_pair] = True
    pair = np.flatnonzero(seen & (items > 0)[remembered.cut])
    return Sessions(
        delay_days=np.where(items > 0, delay / SECONDS_PER_DAY, 0).astype(np.float32),
        items=items.astype(np.float32),
        pair=pair.astype(np.int32),
        holds=holds[pair],
    )


def _encoder_input(examples: _Examples, length: int) -> EncoderInput:
    past, last = examples.past, examples.first + examples.known
    count = np.minimum(examples.known, length)
    cut, event = _ranges(last - count, last)
    valid = np.arange(length) < count[:, None]
    end = np.append(past.seconds, 0.0)[last - 1]

    def rows(values: NDArray[Any], kind: type[np.generic], *width: int) -> NDArray[Any]:
        padded = np.zeros((len(count), length, *width), dtype=kind)
        padded[valid] = values
        return padded

    return EncoderInput(
        item=rows(past.item[event], np.int32),
        type=rows(past.type[event], np.int32),
        strength=rows(past.strength[event], np.float32),
        features=rows(past.sequence_features[event], np.float32, SEQUENCE_FEATURES),
        age_days=rows((end[cut] - past.seconds[event]) / SECONDS_PER_DAY, np.float32),
        length=count.astype(np.int32),
        days_since_last=((examples.seconds - end) / SECONDS_PER_DAY).astype(np.float32),
    )


def _ranges(begin: Places, end: Places) -> tuple[Places, Places]:
    """All numbers from `begin` to before `end` (n,), one range after the other, behind the range that each is of."""
    counts = end - begin
    of = np.repeat(np.arange(len(counts)), counts)
    return of, np.arange(len(of)) + (begin - np.cumsum(counts) + counts)[of]
