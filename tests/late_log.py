"""A small log that does all that makes nights hard: late and repeated records, sessions over midnight, many sources."""

from __future__ import annotations

import csv
import json
import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FIRST = date(2026, 3, 1)
DAYS = 8
USERS, ITEMS = 12, 9
BROKEN_LINE = '2026-03-02T10:00,"user-3,item-1\n'  # in a file that is read again every night

CONFIG = """\
warehouse: warehouse
sources:
  clicks:  # no ids: equal records are one event
    path: {raw}/clicks/{{date}}.csv
    format: csv
    columns: {{user: who, item: what, time: at, event_type: kind, dwell_seconds: dwell}}
    required: false
  plays:  # with ids, which come twice, and not always at the same time
    path: {raw}/plays/date={{date}}/*.json
    format: json
    event_type: play
    columns: {{user: who, item: what, time: at, event_id: id, rating: stars}}
    required: false
  baskets:  # with sessions of their own that last for days, and lines that are really there twice
    path: {raw}/baskets/{{date}}.parquet
    event_type: buy
    columns: {{user: who, item: what, time: at, session_id: basket, quantity: pieces}}
    duplicates: "off"
    required: false
  archive:  # one file, read whole every night
    path: {raw}/archive.csv
    format: csv
    event_type: view
    columns: {{user: who, item: what, time: at}}
  counter:  # the same, and its repeats are real
    path: {raw}/counter.csv
    format: csv
    event_type: view
    columns: {{user: who, item: what, time: at}}
    duplicates: "off"
event_types:
  view: {{weight: 0.2}}
  play: {{weight: 0.5}}
  buy: {{weight: 1.0}}
  cancel: {{weight: -1.0}}
sessionize:
  sequence_length: 12
  users_per_file: 5
  max_session_seconds: 14400
  late_days: 2
  missing_dwell: {{strategy: mean, by: event_type}}
  max_events_per_day: 60
alarms: {{quarantine_share: {{high: 0.9}}}}
"""


@dataclass(frozen=True)
class Record:
    """One record: when it happened and on which day it arrives."""

    source: str
    time: datetime
    arrives: date
    user: str
    item: str
    kind: str
    number: int


def write(folder: Path, seed: int) -> None:
    """Lay the log out, a file a source and day; deterministic in `seed`."""
    chance = random.Random(seed)
    records = [record for user in range(USERS) for record in _of_user(chance, f"user-{user}")]
    chance.shuffle(records)
    by_file = defaultdict(list)
    for record in records:
        by_file[record.source, record.arrives].append(record)
        if chance.random() < 0.1:  # sent twice: at once, or again some days later
            again = min(
                record.arrives + timedelta(days=chance.choice([0, 0, 1, 2, 4])), FIRST + timedelta(days=DAYS - 1)
            )
            by_file[record.source, again].append(record)
    for (source, day), rows in by_file.items():
        WRITERS[source](folder, day, rows, chance)
    for name in ("archive", "counter"):
        whole = [record for (source, _), rows in sorted(by_file.items()) if source == name for record in rows]
        _csv(folder / f"{name}.csv", [[r.time.isoformat(), r.user, r.item] for r in whole], ["at", "who", "what"])
    with (folder / "archive.csv").open("a") as file:
        file.write(BROKEN_LINE)


def _of_user(chance: random.Random, user: str) -> list[Record]:
    """Bursts of events, some of them around midnight; one event in five arrives late."""
    found = []
    for burst in range(chance.randrange(6, 14)):
        hour = chance.choice([23.7, chance.uniform(0, 24)])
        time = datetime.combine(FIRST, datetime.min.time(), UTC) + timedelta(days=chance.randrange(DAYS), hours=hour)
        source = chance.choice(list(WRITERS))
        for step in range(chance.randrange(1, 12)):
            gap = chance.choice([0, 1, 60, 1_799, 1_800, 1_801, 3_000])
            time += timedelta(seconds=gap, microseconds=chance.choice([0, 0, 1]))
            late = chance.choice([0, 0, 0, 0, 1, 2, 3]) if source in ("clicks", "plays", "baskets") else 0
            arrives = time.date() + timedelta(days=late)
            if arrives < FIRST + timedelta(days=DAYS):
                kind = "cancel" if chance.random() < 0.1 else "view"
                item = f"item-{chance.randrange(ITEMS)}"
                found.append(Record(source, time, arrives, user, item, kind, burst * 100 + step))
    return found


def _csv(path: Path, rows: list[list[object]], header: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _clicks(folder: Path, day: date, rows: list[Record], chance: random.Random) -> None:
    lines: list[list[object]] = [
        [r.time.isoformat(), r.user, r.item, r.kind, r.number / 4 if r.number % 3 else ""] for r in rows
    ]
    lines.append(["yesterday", "user-0", "item-0", "view", 1])
    _csv(folder / "clicks" / f"{day}.csv", lines, ["at", "who", "what", "kind", "dwell"])


def _plays(folder: Path, day: date, rows: list[Record], chance: random.Random) -> None:
    path = folder / "plays" / f"date={day}" / "log.json"
    path.parent.mkdir(parents=True)
    moved = [r.time + timedelta(seconds=chance.choice([0, 0, 0, 5])) for r in rows]
    path.write_text(
        "\n".join(
            json.dumps(
                {"who": r.user, "what": r.item, "at": at.isoformat(), "id": f"p{r.number}", "stars": r.number % 5 + 1}
            )
            for r, at in zip(rows, moved, strict=True)
        )
    )


def _baskets(folder: Path, day: date, rows: list[Record], chance: random.Random) -> None:
    path = folder / "baskets" / f"{day}.parquet"
    path.parent.mkdir(exist_ok=True)
    columns = {
        "who": [r.user for r in rows],
        "what": [r.item for r in rows],
        "at": pa.array([r.time for r in rows], pa.timestamp("us", "UTC")),
        "basket": [f"basket-{r.number // 300}" for r in rows],
        "pieces": [r.number % 4 + 1 for r in rows],
    }
    pq.write_table(pa.table(columns), path)


def _whole(folder: Path, day: date, rows: list[Record], chance: random.Random) -> None:
    """Written at the end, as one file."""


WRITERS = {"clicks": _clicks, "plays": _plays, "baskets": _baskets, "archive": _whole, "counter": _whole}
