"""The segments that rankings are judged by: of users, by their history, and of a truth's items.

`all` are the users with a history; a new user is in `user:new` alone. Of users: `history:2-5`, by sessions before the
cut, and `silence:7-29d`, by full days since the last of them. Of items: `item:repeat` and `item:new`, what the user had
bought before the cut and what not, and `type:view`, by event type where several count: there, a user's truth is its
items of that kind, and users without any are left out. Of pairs: `score:2^-7`, those whose score lies from there to
twice as much; the lowest of them, `score:2^-23`, also has all below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from halflife.evaluation.baselines import History

ALL: Final = "all"
NEW_USER: Final = "user:new"
REPEAT_ITEM: Final = "item:repeat"
NEW_ITEM: Final = "item:new"
SCORES: Final = "score:2^"

# The least of each class but the first.
HISTORY_SESSIONS: Final = (2, 6, 21, 101)
SILENCE_DAYS: Final = (7, 30, 90)

Flags = NDArray[np.bool_]


def of_user(history: History) -> tuple[str, ...]:
    """The segments of a user with this history before the cut."""
    if not history.columns.size:
        return (NEW_USER,)
    silence = _class(int(history.age_days.min()), 0, SILENCE_DAYS)
    return (ALL, f"history:{_class(history.session_count, 1, HISTORY_SESSIONS)}", f"silence:{silence}d")


def of_scores(octave: int) -> str:
    """The segment of the pairs whose score lies from 2^octave to twice as much; of the lowest octave, also below."""
    return f"{SCORES}{octave}"


def octave_of(segment: str) -> int | None:
    """The octave of a segment of scores; None for any other segment."""
    return int(segment.removeprefix(SCORES)) if segment.startswith(SCORES) else None


def _class(value: int, least: int, edges: Sequence[int]) -> str:
    """The class of a number as text: 2-5, 101+, or 1 where it holds one number only."""
    bounds = (least, *edges)
    place = int(np.searchsorted(bounds, value, side="right")) - 1
    begin = bounds[max(place, 0)]
    if place == len(bounds) - 1:
        return f"{begin}+"
    end = bounds[place + 1] - 1
    return str(begin) if begin == end else f"{begin}-{end}"


def of_items(types: NDArray[np.int32], bought: Flags, event_types: Sequence[str]) -> Iterator[tuple[str, Flags]]:
    """Name and relevant columns (B, n) of each segment of items, from the truth's `types` (B, n), 0 where it has none,
    and what was `bought` before (B, n)."""
    yield REPEAT_ITEM, (types > 0) & bought
    yield NEW_ITEM, (types > 0) & ~bought
    if len(event_types) > 1:
        for place, name in enumerate(event_types):
            yield f"type:{name}", ((types >> place) & 1).astype(np.bool_)
