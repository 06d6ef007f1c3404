"""A small log with a known half-life: each event raises the rate of the next one on its item, and the rise halves.

A Hawkes process (Hawkes, 1971) with the kernel b 2^(-age / h): the best ranking of a user's items is then the decayed
count with exactly the half-life h.
"""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FIRST_DAY = date(2026, 1, 1)
DAYS = 62
HALF_LIFE_DAYS = 4.0
USERS, ITEMS = 240, 30
EVENTS_PER_EVENT = 0.92  # of the offspring of one event: below one, so that interest dies out
NEW_INTERESTS_A_DAY = 0.12
SILENT = "user-000"  # a member without an event
NEVER_BOUGHT = "item-99"  # in the assortment, in no event

Event = tuple[datetime, str, str]


def events(seed: int) -> list[Event]:
    """Times, users and items of all events, in order."""
    chance = random.Random(seed)
    start = datetime.combine(FIRST_DAY, datetime.min.time(), UTC)
    found = []
    for user in range(1, USERS):
        ages = [(chance.expovariate(NEW_INTERESTS_A_DAY), chance.randrange(ITEMS))]
        while ages[-1][0] < DAYS:
            ages.append((ages[-1][0] + chance.expovariate(NEW_INTERESTS_A_DAY), chance.randrange(ITEMS)))
        while ages:
            day, item = ages.pop()
            if day < DAYS:
                found.append((start + timedelta(days=day), f"user-{user:03}", f"item-{item:02}"))
                ages.extend((day + age, item) for age in offspring(chance))
    return sorted(found)


def offspring(chance: random.Random) -> list[float]:
    """Ages in days at which one event is followed by others: a Poisson number, exponential ages."""
    followers, budget = 0, chance.expovariate(1.0)
    while budget < EVENTS_PER_EVENT:
        followers, budget = followers + 1, budget + chance.expovariate(1.0)
    return [chance.expovariate(0.6931471805599453 / HALF_LIFE_DAYS) for _ in range(followers)]


def write(folder: Path, seed: int = 11) -> None:
    """Lay the log out as a lake would: purchases as Parquet, views as CSV, a folder a day, and the two catalogues."""
    by_day: dict[date, list[Event]] = defaultdict(list)
    for event in events(seed):
        by_day[event[0].date()].append(event)
    for day, rows in by_day.items():
        _write_day(folder, day, rows)
    members = [SILENT, *(f"user-{user:03}" for user in range(1, USERS))]
    items = [*(f"item-{item:02}" for item in range(ITEMS)), NEVER_BOUGHT]
    pq.write_table(pa.table({"member": members}), folder / "members.parquet")
    pq.write_table(pa.table({"sku": items, "name": [f"Thing {item}" for item in items]}), folder / "items.parquet")


def _write_day(folder: Path, day: date, rows: list[Event]) -> None:
    purchases = folder / "purchases" / f"date={day}"
    views = folder / "views" / f"date={day}"
    purchases.mkdir(parents=True)
    views.mkdir(parents=True)
    times, users, items = zip(*rows, strict=True)
    pq.write_table(pa.table({"at": list(times), "who": list(users), "what": list(items)}), purchases / "a.parquet")
    with (views / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["at", "who", "what", "kind", "dwell"])
        for time, user, item in rows[::3]:
            writer.writerow([(time - timedelta(seconds=30)).isoformat(), user, item, "view", 12.5])
        if day == FIRST_DAY:
            writer.writerow([rows[0][0].isoformat(), "", "item-00", "view", 1])
            writer.writerow([rows[0][0].isoformat(), "user-001", "item-00", "teleport", 1])
            writer.writerows([[rows[0][0].isoformat(), "user-001", "item-00", "view", 7]] * 2)


CONFIG = """\
warehouse: warehouse
sources:
  purchases:
    path: {raw}/purchases/date={{date}}/*.parquet
    event_type: purchase
    columns: {{user: who, item: what, time: at}}
  views:
    path: {raw}/views/date={{date}}/*.csv
    format: csv
    columns: {{user: who, item: what, time: at, event_type: kind, dwell_seconds: dwell}}
event_types:
  purchase: {{weight: 1.0}}
  view: {{weight: 0.2}}
users: {{path: "{raw}/members.parquet", id: member}}
items: {{path: "{raw}/items.parquet", id: sku, title: name}}
sessionize: {{sequence_length: 20}}
model: {{half_lives_days: [1, 4, 30]}}
train: {{epochs: 2, history_length: 64, validation_days: 7, gate: warn}}
evaluate:
  half_lives_days: [1, 4, 16, 64]
  reported_half_lives_days: []
  min_users_per_item: 2
  validation_days: 14
  tifu_knn: [{{group_size: 3, neighbours: 10}}]
  als: [{{rank: 4, iterations: 2}}]
  sar: [{{half_life_days: 4}}]
  bootstrap_replicates: 100
"""
