"""One pass over the memory of all pairs: how many interests revived, and pairs worth showing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray

from halflife import arrow
from halflife.decay import SECONDS_PER_DAY
from halflife.nights import instant
from halflife.report.facts import Facts

COLUMNS: Final = ["user_index", "item_index", "anchor_time", "event_count", "revived"]
RECENT_DAYS: Final = 30.0  # a habit's last event is not older
SILENT_DAYS: Final = (60.0, 180.0)  # what is shown as fading had its last event so long ago

HABIT, REVIVAL, FADING = "a steady habit", "an interest that revived", "an interest that fades"


@dataclass(frozen=True)
class Pair:
    """A pair that is worth showing: the most events of its kind."""

    events: int
    user: int
    item: int


@dataclass
class Remembered:
    """What the memory table says of a night: all its pairs, those that revived since the night before by item_index,
    and the best example of each kind."""

    pairs: int = 0
    revived: Counter[int] = field(default_factory=Counter)
    examples: dict[str, Pair] = field(default_factory=dict)


def read(facts: Facts) -> Remembered:
    """Read the memory of a night, a batch after the other: it may be far larger than what a report may hold."""
    found = Remembered()
    since = facts.night_before or date.min
    memory = ds.dataset(facts.store.path("memory", facts.as_of))
    for batch in memory.to_batches(columns=COLUMNS):
        user, item, events = (batch.column(name).to_numpy() for name in ("user_index", "item_index", "event_count"))
        silent = (instant(facts.as_of).timestamp() - arrow.seconds(batch.column("anchor_time"))) / SECONDS_PER_DAY
        revived = batch.column("revived").to_numpy(zero_copy_only=False) & (silent <= (facts.as_of - since).days)
        found.pairs += batch.num_rows
        found.revived.update(item[revived].tolist())
        kinds = {
            HABIT: ~revived & (silent <= RECENT_DAYS),
            REVIVAL: revived,
            FADING: (silent >= SILENT_DAYS[0]) & (silent <= SILENT_DAYS[1]),
        }
        for kind, rows in kinds.items():
            _keep_best(found.examples, kind, np.flatnonzero(rows), events, user, item)
    return found


def _keep_best(
    examples: dict[str, Pair],
    kind: str,
    rows: NDArray[np.intp],
    events: NDArray[np.int64],
    user: NDArray[np.int32],
    item: NDArray[np.int32],
) -> None:
    """The pair of most events; of equals that of the first user, whatever the order of the files."""
    if not rows.size:
        return
    best = rows[np.lexsort((item[rows], user[rows], -events[rows]))[0]]
    pair = Pair(int(events[best]), int(user[best]), int(item[best]))
    examples[kind] = min(pair, examples.get(kind, pair), key=lambda each: (-each.events, each.user, each.item))
