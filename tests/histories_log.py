"""Random histories for the walk, and what a plain loop over them finds."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import schemas
from halflife.histories.files import FORMS
from halflife.histories.sessions import Rules
from halflife.histories.walk import Settings, walk

SECOND = 1_000_000
DAY = 86_400 * SECOND
START = 20_000 * DAY
RULES = Rules.of_seconds(gap_seconds=600.0, max_session_seconds=1_500.0)
USERS_PER_FILE = 2
ITEMS = [f"item {n}" for n in range(5)]
TYPES = ["view", "skip"]
FILES = [("web", "a.csv"), ("web", "b.csv"), ("shop", "c.csv")]
HISTORY = to_arrow_schema(schemas.HISTORY)
ARRAYS = [field.name for field in schemas.SEQUENCES][4:]


@dataclass(frozen=True)
class Event:
    """One row of `schemas.HISTORY`. Its key stands for all that it says."""

    user_index: int
    micros: int
    event_key: int
    item_index: int = 0
    event_id: str | None = None
    repeats: int = 0
    role: int = 0
    given_session_id: str | None = None
    dwell_seconds: float | None = None
    file_index: int = 0

    @property
    def place(self) -> tuple[Any, ...]:
        """What makes two rows the same event."""
        return self.user_index, self.micros, self.event_id or "~", self.event_key % 2**64

    @property
    def strength(self) -> float:
        return 0.5 * self.item_index - 1.0

    def row(self) -> dict[str, Any]:
        values = {
            **vars(self),
            "bucket": self.user_index // USERS_PER_FILE,
            "user_id": f"user {self.user_index}",
            "type_index": self.item_index % len(TYPES),
            "event_time": self.micros,
            "dwell_imputed": False,
            "rating_imputed": False,
            "strength": self.strength,
        }
        return {name: values.get(name) for name in HISTORY.names}


def in_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: (*event.place, -event.role, event.file_index))


def batches(events: Sequence[Event], size: int = 1_000_000) -> Iterator[pa.RecordBatch]:
    """The events, in the order in which they are given, in batches of a size."""
    for begin in range(0, len(events), size):
        rows = [event.row() for event in events[begin : begin + size]]
        yield pa.RecordBatch.from_pylist(rows, schema=HISTORY)


# Gaps and spans around the limits, exactly on them too, and equal times.
_STEPS = st.sampled_from([0, 0, 1, 299, 300, 301, 599, 600, 601, 40_000]).map(lambda seconds: seconds * SECOND)
_EVENTS = st.tuples(
    st.integers(0, 3),  # user
    _STEPS,
    st.integers(-3, 3),  # key
    st.integers(0, 3),  # item
    st.sampled_from([None, "a", "b"]),  # event id
    st.sampled_from([None, None, "x", "y"]),  # given session
    st.sampled_from([None, 0.25, 30.0]),  # dwell
    st.integers(0, 2),  # file
)


@st.composite
def logs(draw: st.DrawFn, given: bool = True, repeats: Sequence[int] = (0, 1)) -> list[Event]:
    """Events of a few users in the walk's order, duplicates and copies among them."""
    time: dict[int, int] = defaultdict(lambda: START)
    mode = draw(st.sampled_from(repeats))
    events = []
    for user, step, key, item, event_id, session, dwell, file in draw(st.lists(_EVENTS, min_size=1, max_size=40)):
        time[user] += step
        session = session if given else None
        same = random.Random(key)  # what the key says of the event: rows of one key are alike
        item = item if not mode else same.randrange(4)
        event = Event(user, time[user], key, item, event_id, mode, 0, session, dwell, file)
        events.append(event)
        if draw(st.integers(0, 4)) == 0:
            events += [replace(event, file_index=draw(st.integers(0, 2)))] * draw(st.integers(1, 3))
    return in_order(events)


@dataclass
class Session:
    """What a session adds up to so far."""

    id: Any
    start: int
    end: int = 0
    events: int = 0
    engaged: float = 0.0


def oracle(events: Sequence[Event]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Counter[int]]:
    """Rows of the events that stay, rows of the sessions, and duplicates by file, by a loop over one row at a time.

    A session's id is (user, its given id, or else its start).
    """
    found, sessions, duplicates = [], {}, Counter()
    copies: Counter[Any] = Counter()
    last: dict[Any, Event] = {}
    items: dict[Any, set[int]] = defaultdict(set)
    visits: Counter[Any] = Counter()
    for event in in_order(events):
        copies[event.place] += 1
        if copies[event.place] > 1 and event.repeats == 0:
            duplicates[event.file_index] += 1
            continue
        user, given, micros = event.user_index, event.given_session_id, event.micros
        ungiven = last.get(("ungiven", user))
        if given is not None:
            session = sessions.setdefault((user, given), Session((user, given), micros))
        else:
            session = sessions.get((user, None))
            gap = session and ungiven and micros - ungiven.micros
            if session is None or gap > RULES.gap_micros or micros - session.start > RULES.max_session_micros:
                session = sessions[user, None] = sessions[user, None, micros] = Session((user, micros), micros)
            last["ungiven", user] = event
        gap = min(micros - session.end, RULES.gap_micros) / SECOND if session.events else 0.0
        session.engaged += gap if event.dwell_seconds is None else event.dwell_seconds
        items[session.id].add(event.item_index)
        seen, before = last.get((user, event.item_index)), last.get(user)
        found.append(
            {
                "user_id": f"user {user}",
                "item_id": ITEMS[event.item_index],
                "event_time": micros,
                "event_id": _name(event, copies[event.place] - 1),
                "session": session.id,
                "session_given": given is not None,
                "session_start": session.start,
                "session_position": session.events,
                "gap_seconds": before and (micros - before.micros) / SECOND,
                "revisit_gap_seconds": seen and (micros - seen.micros) / SECOND,
                "revisit_count": visits[user, event.item_index],
            }
        )
        session.end, session.events = micros, session.events + 1
        last[user] = last[user, event.item_index] = event
        visits[user, event.item_index] += 1
    summed = [
        {
            "session": session.id,
            "start_time": session.start,
            "end_time": session.end,
            "events": session.events,
            "items": len(items[session.id]),
            "engaged_seconds": session.engaged,
        }
        for session in {id(session): session for session in sessions.values()}.values()
    ]
    return found, summed, duplicates


def _name(event: Event, copy: int) -> str:
    own = event.event_id or f"~{event.event_key % 2**64:016x}"
    return f"{own}-{copy}" if copy else own


def settings(root: Path, name: str = "first", **changes: Any) -> Settings:
    """Of a walk that writes into folders below a root."""
    folders = {table: str(root / name / table) for table in FORMS}
    for folder in folders.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    items = pa.table({"item_id": ITEMS})
    path = str(root / "items.arrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, items.schema) as writer:
        writer.write_table(items)
    values: dict[str, Any] = {
        "gap_seconds": RULES.gap_micros / SECOND,
        "max_session_seconds": RULES.max_session_micros / SECOND,
        "sequence_length": 4,
        "folders": folders,
        "settled_before_micros": START + DAY,
        "items": path,
        "event_types": TYPES,
        "files": FILES,
    }
    return Settings(**(values | changes))


def walked(events: Sequence[Event], told: Settings, batch: int = 1_000_000) -> list[dict[str, Any]]:
    """Walk over the events, in order; returns the listing."""
    return [row for listing in walk(batches(in_order(events), batch), told) for row in listing.to_pylist()]


def table(told: Settings, name: str, *sort: str) -> list[dict[str, Any]]:
    """All rows of a table that was written, times in microseconds."""
    schema = to_arrow_schema(getattr(schemas, name.upper()))
    read = pq.read_table(told.folders[name]).cast(schema) if any(Path(told.folders[name]).iterdir()) else None
    rows = [] if read is None else read.to_pylist()
    for row in rows:
        for key in [key for key in row if key.endswith(("_time", "_start"))]:
            row[key] = int(np.datetime64(row[key].replace(tzinfo=None), "us").astype(int))
    return sorted(rows, key=lambda row: tuple(row[key] for key in sort)) if sort else rows
