"""A made-up event log for the benchmarks: seeded, as large as asked for, one Parquet file a day.

Users' activity follows a Pareto law (the 80/20 one: the busiest of 500,000 users has two of a hundred events), items a
Zipf law. Events come in sessions of seconds to minutes between events; half of them have no dwell. All of a user's days
fall within the same 11 hours, so that no session lasts 12 hours or crosses midnight, and no user has two events at one
instant: what the sequences are is then beyond dispute.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Longs = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]

FIRST_DAY = date(2026, 1, 1)
TYPES = {"view": 0.70, "click": 0.20, "cart": 0.07, "purchase": 0.03}  # their shares
PARETO = 1.16  # the exponent at which a fifth of the users has four fifths of the events
ZIPF = 1.0
SECOND = 1_000_000  # in microseconds, as all times here
DAY = 86_400 * SECOND
LATEST_WAKING, WAKING = 13 * 3_600 * SECOND, 8 * 3_600 * SECOND  # when a user's sessions may start, and for how long
MEAN_SESSION, LONGEST_SESSION = 8, 40  # events
MEAN_GAP, LONGEST_GAP = 45 * SECOND, 240 * SECOND  # within a session
SAME_ITEM = 0.4  # share of events on the item of the event before


@dataclass(frozen=True)
class Log:
    """What a log is made from; the same values make the same bytes."""

    events: int
    users: int
    days: int = 30
    items: int = 30_000
    seed: int = 7

    @property
    def last_day(self) -> date:
        return FIRST_DAY + timedelta(days=self.days - 1)

    def cached(self, folder: Path) -> Path:
        """The log's own folder under `folder`, written if it is not there yet: date=D/part-0.parquet."""
        made_by = hashlib.sha256(Path(__file__).read_bytes() + repr(self).encode()).hexdigest()[:8]
        home = folder / f"{self.events}-events-{self.days}-days-{made_by}"
        if not home.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix="writing-", dir=folder))
            try:
                self.write(work)
                work.rename(home)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return home

    def write(self, folder: Path) -> None:
        """One day after the other, so that memory holds no more than a day."""
        population = Population(self)
        for day in range(self.days):
            path = folder / f"date={FIRST_DAY + timedelta(days=day)}" / "part-0.parquet"
            path.parent.mkdir()
            pq.write_table(population.day(day), path, compression="zstd")


class Population:
    """The users and items of a log, with their names and how often each is drawn."""

    def __init__(self, log: Log) -> None:
        self.log = log
        users, items = np.arange(log.users, dtype=np.uint64), np.arange(log.items, dtype=np.uint64)
        # Odd factors: one-to-one in 32 bits, and the order of the names is not that of activity.
        self.user_ids = pa.array([f"u{number:08x}" for number in (users * 2_654_435_761 + 97) % 2**32])
        self.item_ids = pa.array([f"i{number:08x}" for number in (items * 2_246_822_519 + 31) % 2**32])
        self.user_shares = _cumulative((users + 1.0) ** (-1 / PARETO))
        self.item_shares = _cumulative((items + 1.0) ** -ZIPF)
        self.wakes_at = np.random.default_rng(log.seed).integers(0, LATEST_WAKING, log.users)

    def day(self, day: int) -> pa.Table:
        """The events of one day in the order of their times."""
        chance = np.random.default_rng([self.log.seed, day])
        events = self.log.events * (day + 1) // self.log.days - self.log.events * day // self.log.days
        lengths = _session_lengths(chance, events)
        first = np.zeros(events, bool)
        first[np.cumsum(lengths) - lengths] = True
        who = np.searchsorted(self.user_shares, chance.random(len(lengths)))
        starts = self.wakes_at[who] + chance.integers(0, WAKING, len(lengths))
        users = np.repeat(who, lengths)
        times = np.repeat(starts, lengths) + _since_start(chance, lengths)
        drawn = np.searchsorted(self.item_shares, chance.random(events))
        fresh = first | (chance.random(events) >= SAME_ITEM)
        items = drawn[np.maximum.accumulate(np.where(fresh, np.arange(events), 0))]
        types = np.searchsorted(_cumulative(np.array(list(TYPES.values()))), chance.random(events))
        dwell = np.minimum(chance.lognormal(np.log(40), 1.2, events), 7_200).round(3)
        unknown = chance.random(events) < 0.5

        by_user, times = _without_ties(users, times)
        order = by_user[np.argsort(times, kind="stable")]
        midnight = datetime.combine(FIRST_DAY + timedelta(days=day), datetime.min.time(), UTC)
        instants = np.sort(times) + int(midnight.timestamp()) * SECOND
        return pa.table(
            {
                "user_id": self.user_ids.take(pa.array(users[order])),
                "item_id": self.item_ids.take(pa.array(items[order])),
                "event_type": pa.array(list(TYPES)).take(pa.array(types[order])),
                "event_time": pa.array(instants, pa.timestamp("us", "UTC")),
                "dwell_seconds": pa.array(dwell[order], mask=unknown[order]),
            }
        )


def _cumulative(weights: Shares) -> Shares:
    """Upper ends of the weights' shares of 1; the last is 1 exactly."""
    ends: Shares = np.cumsum(weights) / np.sum(weights)
    ends[-1] = 1.0
    return ends


def _session_lengths(chance: np.random.Generator, events: int) -> Longs:
    """Events of each session, `events` together."""
    lengths = np.minimum(chance.geometric(1 / MEAN_SESSION, size=events), LONGEST_SESSION)
    ends = np.minimum(np.cumsum(lengths), events)
    return np.diff(ends[: np.searchsorted(ends, events) + 1], prepend=0)


def _since_start(chance: np.random.Generator, lengths: Longs) -> Longs:
    """Microseconds from the start of its session to each event."""
    gaps = np.minimum(chance.exponential(MEAN_GAP, lengths.sum()).astype(np.int64), LONGEST_GAP)
    so_far = np.cumsum(gaps)
    since: Longs = so_far - np.repeat(so_far[np.cumsum(lengths) - lengths], lengths)
    return since


def _without_ties(users: Longs, times: Longs) -> tuple[Longs, Longs]:
    """The order of events by (user, time), and their times in it, ties moved apart by microseconds."""
    keys = users * DAY + times
    order = np.argsort(keys, kind="stable")
    place = np.arange(len(keys))
    ascending = np.maximum.accumulate(keys[order] - place) + place
    return order, ascending - users[order] * DAY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--users", type=int, help="default: a hundredth of the events")
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    users = options.users or max(options.events // 100, 1)
    print(os.fspath(Log(options.events, users, options.days).cached(options.folder)))


if __name__ == "__main__":
    main()
