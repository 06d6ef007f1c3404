"""The states of users and of their pairs, brought up to date by what changed: from Arrow columns to Arrow columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import arrow, schemas
from halflife.histories.rows import pair_key
from halflife.memory import NEVER, Pace, States, faded_on, fold
from halflife.model import artifact
from halflife.model.artifact import Model
from halflife.model.features import EVENT_COLUMNS

# An event that differs in one of these is another one. In this order they stand by user.
COMPARED: Final = ("user_index", "event_time", "event_id", *EVENT_COLUMNS)
ORDER: Final = ("item_index", "event_time", "event_id")

MEMORY: Final = to_arrow_schema(schemas.MEMORY)
# A state but for what follows from it.
STATE: Final = [name for name in MEMORY.names if name != "faded_on"]
USER_STATES: Final = to_arrow_schema(schemas.USER_STATES)
EVENT_SCHEMA: Final = pa.schema(
    {field.name: field.type for field in to_arrow_schema(schemas.EVENTS) if field.name in COMPARED}
)

Keys = NDArray[np.int64]


@lru_cache(maxsize=1)
def model_of(directory: Path) -> Model:
    """The model of a folder, loaded once in each Python worker process."""
    return artifact.load(directory)


@dataclass(frozen=True)
class Rules:
    """How memory is made: the folder of the model, and what else is in the state of a pair."""

    model: Path
    pace: Pace
    faded_below: float


def user_states(changes: pa.Table, old: pa.Table | None) -> pa.Table:
    """Replace the states of the users of `changes`, sorted; who has no row with read-outs has no events any more."""
    fresh = changes.filter(pc.is_valid(changes["readouts"])).cast(USER_STATES)
    if old is None:
        return fresh
    gone = pc.is_in(old["user_index"], changes["user_index"].combine_chunks())
    return pa.concat_tables([old.filter(pc.invert(gone)).cast(USER_STATES), fresh]).sort_by("user_index")


def memory(changes: pa.Table, old: pa.Table | None, rules: Rules, events: Sequence[Path]) -> pa.Table:
    """Bring the memory of the pairs of `changes` up to date; the others stay as they are.

    `changes` are events (COMPARED) that are new, or were `removed`, sorted by user_index and ORDER. A pair whose new
    events all follow its last one has their jumps added to its state. A pair with an event that came late, or is gone,
    is added up anew from all its events, which are looked up in the files of `events`: the jumps of its later events
    may be others now.
    """
    if old is None:
        return added_up(jumps(changes, rules.model), rules)
    key, known = _keys(changes), _keys(old)
    touched, first = np.unique(key, return_index=True)
    place = np.searchsorted(known, touched)
    has_state = known[np.minimum(place, len(known) - 1)] == touched if len(known) else np.zeros(len(touched), bool)
    anchors = _times(old, "anchor_time")
    late = np.zeros(len(touched), dtype=bool)
    late[has_state] = _times(changes, "event_time")[first[has_state]] <= anchors[place[has_state]]
    stale = np.union1d(touched[late], key[changes["removed"].to_numpy()])
    following = changes.filter(pa.array(~np.isin(key, stale)))
    again = events_of(events, stale)
    goes_on = np.isin(known, np.setdiff1d(touched, stale, assume_unique=True))
    parts = [old.filter(pa.array(goes_on)).select(STATE), *(jumps(rows, rules.model) for rows in (following, again))]
    states = pa.concat_tables(parts)
    merged = added_up(states.take(np.lexsort((_times(states, "anchor_time"), _keys(states)))), rules)
    rows = pa.concat_tables([old.filter(pa.array(~np.isin(known, touched))).cast(MEMORY), merged])
    return rows.take(np.argsort(_keys(rows), kind="stable"))


def jumps(events: pa.Table, model_directory: Path) -> pa.Table:
    """Each event's jump as a state of its pair, in the columns of STATE."""
    columns = {name: events[name].to_numpy() for name in ("user_index", *EVENT_COLUMNS)}
    values, positive = model_of(model_directory).jumps(columns), (columns["strength"] > 0)[:, None]
    count = len(events)
    state = {
        "user_index": events["user_index"],
        "item_index": events["item_index"],
        "anchor_time": events["event_time"],
        "positive": arrow.lists(values * positive),
        "negative": arrow.lists(values * ~positive),
        "event_count": pa.array(np.ones(count, dtype=np.int64)),
        "revived": pa.array(np.zeros(count, dtype=bool)),
        "leading_time": events["event_time"],
        "leading_type": events["type_index"],
        "leading": arrow.lists(values * positive),
    }
    return pa.table(state).cast(pa.schema([MEMORY.field(name) for name in STATE]))


def events_of(files: Sequence[Path], pairs: Keys) -> pa.Table:
    """The events of some pairs (sorted keys), by pair and ORDER."""
    users = np.unique(pairs >> 32)
    found = [EVENT_SCHEMA.empty_table()]
    for file in files if len(pairs) else ():
        for rows in arrow.rows_of(file, users, EVENT_SCHEMA.names):
            of_pairs = rows.filter(pa.array(np.isin(_keys(rows), pairs)))
            found.append(of_pairs.select(EVENT_SCHEMA.names).cast(EVENT_SCHEMA))
    return pa.concat_tables(found).sort_by([(name, "ascending") for name in ("user_index", *ORDER)])


def added_up(states: pa.Table, rules: Rules) -> pa.Table:
    """Add up the states of each pair, in the columns of `schemas.MEMORY`.

    `states` (STATE) are sorted by pair and time: stored states, and the jumps of single events (event_count 1, not
    revived, leading themselves). A pair is revived where its newest event ended a silence of at least
    `pace.silence_days` in which its positive memory had faded below `pace.retained_share` of what it was.
    """
    if not len(states):
        return MEMORY.empty_table()
    states = states.combine_chunks()
    start = np.flatnonzero(np.diff(_keys(states), prepend=-1))
    merged = fold(_states(states), np.diff(np.append(start, len(states))), rules.pace)
    nights = faded_on(merged, rules.pace, rules.faded_below)
    columns = {
        "user_index": states["user_index"].take(start),
        "item_index": states["item_index"].take(start),
        "anchor_time": pa.array(merged.time),
        "positive": arrow.lists(merged.positive),
        "negative": arrow.lists(merged.negative),
        "event_count": pa.array(merged.events),
        "revived": pa.array(merged.revived),
        "leading_time": pa.array(merged.leading_time),
        "leading_type": pa.array(merged.leading_type),
        "leading": arrow.lists(merged.leading),
        "faded_on": pa.array(nights.astype(np.int32), mask=nights == NEVER),
    }
    return pa.table(columns).cast(MEMORY)


def _states(rows: pa.Table) -> States:
    def channels(name: str) -> NDArray[np.float64]:
        return arrow.matrix(rows[name].chunk(0))

    return States(
        time=_times(rows, "anchor_time"),
        events=rows["event_count"].to_numpy(),
        revived=rows["revived"].to_numpy(),
        positive=channels("positive"),
        negative=channels("negative"),
        leading_time=_times(rows, "leading_time"),
        leading_type=rows["leading_type"].to_numpy(),
        leading=channels("leading"),
    )


def _keys(rows: pa.Table) -> Keys:
    return pair_key(rows["user_index"].to_numpy(), rows["item_index"].to_numpy())


def _times(rows: pa.Table, name: str) -> NDArray[Any]:
    times: NDArray[Any] = rows[name].cast(pa.int64()).to_numpy()
    return times
