"""A synthetic log beside its truth, in memory and as files that a config reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from halflife.decay import SECONDS_PER_DAY, Floats
from halflife.synthetic.domains import Domain
from halflife.synthetic.process import Population, Process, population
from halflife.synthetic.thinning import walk

FIRST_DAY: Final = date(2026, 1, 1)

EVENTS: Final = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("event_time", pa.timestamp("us", "UTC")),
        ("event_type", pa.string()),
        ("dwell_seconds", pa.float64()),
    ]
)
KEY: Final = ["event_time", "user_id", "item_id"]
REVIVAL_TRUTH: Final = ("silence_days", "retained_share", "planted")


@dataclass(frozen=True)
class SyntheticLog:
    """The events and what is true of them.

    events: one row is an event, in order of time; user_id, item_id, event_time (UTC), event_type, dwell_seconds.
    users: one row is a user, with events or without; user_id, stretch of the half-lives, half_life_days of an average
    event, interests_a_day. items: item_id, category, first_day, popularity within the category. event_types: the fields
    of EventType. revivals: one row is an event that revived its pair; user_id, item_id, event_time, silence_days,
    retained_share of the positive memory, and whether it was planted or came by itself.
    """

    domain: Domain
    people: Population
    first_day: date
    days: int
    events: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame
    event_types: pd.DataFrame
    revivals: pd.DataFrame

    def interest(self, at: datetime) -> Floats:
        """The true rate of every pair at `at` given the events before, (users, items) a day, the rhythm left out."""
        known = self.events[self.events["event_time"] < at]
        user = pd.Index(self.users["user_id"]).get_indexer(known["user_id"])
        item = pd.Index(self.items["item_id"]).get_indexer(known["item_id"])
        kind = pd.Index(self.event_types["name"]).get_indexer(known["event_type"])
        age_days = (known["event_time"] - at).dt.total_seconds().to_numpy() / -SECONDS_PER_DAY
        left = np.exp2(-age_days / (self.domain.half_lives_days[kind] * self.people.stretch[user]))
        jumps = self.domain.jump_per_day * self.domain.strengths(kind, known["dwell_seconds"].to_numpy())
        everyone, everything = np.indices((len(self.users), len(self.items)), sparse=True)
        rate = self.people.affinity(everyone, everything)
        np.add.at(rate, (user, item), jumps * left)
        return np.where(self.items["first_day"] <= at.date(), np.maximum(rate, 0.0), 0.0)

    def config(self, folder: Path) -> dict[str, Any]:
        """What `halflife.config` needs to read the log from `folder`."""
        columns = {name.removesuffix("_id"): name for name in EVENTS.names if name != "event_time"}
        return {
            "warehouse": str(folder / "warehouse"),
            "sources": {
                self.domain.name: {
                    "path": f"{folder}/events/date={{date}}/*.parquet",
                    "columns": {**columns, "time": "event_time"},
                }
            },
            "event_types": {kind.name: {"weight": kind.weight} for kind in self.domain.types},
            "users": {"path": f"{folder}/users.parquet", "id": "user_id"},
            "items": {"path": f"{folder}/items.parquet", "id": "item_id", "category": "category"},
            "evaluate": {"event_types": [self.domain.target]},
        }

    def write(self, folder: Path) -> None:
        """Lay the log out: a Parquet file a day, a table of each truth beside them, and a config that reads it all."""
        table = pa.Table.from_pandas(self.events, EVENTS, preserve_index=False)
        day_of_event = (self.events["event_time"] - _start(self.first_day)).dt.days
        edges = np.searchsorted(day_of_event, np.arange(self.days + 1)).tolist()
        for day, (begin, end) in enumerate(pairwise(edges)):
            place = folder / "events" / f"date={self.first_day + timedelta(days=day)}"
            place.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.slice(begin, end - begin), place / "events.parquet")
        for name in ("users", "items", "event_types", "revivals"):
            getattr(self, name).to_parquet(folder / f"{name}.parquet", index=False)
        (folder / "config.yaml").write_text(yaml.safe_dump(self.config(folder), sort_keys=False), encoding="utf-8")


def generate(
    domain: Domain, users: int = 1_000, items: int = 200, days: int = 180, seed: int = 7, first_day: date = FIRST_DAY
) -> SyntheticLog:
    """Draw a log of `days` days from `first_day` on; the same arguments give the same log."""
    chance = np.random.default_rng(seed)
    people = population(domain, users, items, days, chance)
    process = Process(domain, people, days, first_day.weekday(), chance)
    candidates = process.candidates()
    walked = walk(process, candidates)
    user_table, item_table = _users(domain, people), _items(people, first_day)
    frame = pd.DataFrame(
        {
            "user_id": user_table["user_id"].to_numpy()[candidates["user"]],
            "item_id": item_table["item_id"].to_numpy()[candidates["item"]],
            "event_time": _times(first_day, candidates["day"]),
            "event_type": np.array([kind.name for kind in domain.types], dtype=object)[candidates["type"]],
            "dwell_seconds": candidates["dwell"],
            "silence_days": walked.silence_days,
            "retained_share": walked.retained_share,
            "planted": candidates["planted"],
            "revived": walked.revived,
        }
    )
    # Two events of a pair within a microsecond would be one row to a log.
    happened = frame[walked.happened].sort_values(KEY).drop_duplicates(KEY)
    return SyntheticLog(
        domain=domain,
        people=people,
        first_day=first_day,
        days=days,
        events=happened[EVENTS.names].reset_index(drop=True),
        users=user_table,
        items=item_table,
        event_types=pd.DataFrame([asdict(kind) for kind in domain.types]),
        revivals=happened.loc[happened["revived"], [*KEY, *REVIVAL_TRUTH]].reset_index(drop=True),
    )


def _users(domain: Domain, people: Population) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": _ids("user", len(people.stretch)),
            "stretch": people.stretch,
            "half_life_days": domain.half_life_days * people.stretch,
            "interests_a_day": people.interests_a_day,
        }
    )


def _items(people: Population, first_day: date) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": _ids("item", len(people.category)),
            "category": _ids("category", people.tastes.shape[1])[people.category],
            "first_day": [first_day + timedelta(days=day) for day in people.first_day.tolist()],
            "popularity": people.popularity,
        }
    )


def _ids(kind: str, number: int) -> NDArray[np.object_]:
    """Ids that sort as they count: user-000, user-001, ..."""
    width = len(str(number - 1))
    return np.array([f"{kind}-{index:0{width}}" for index in range(number)], dtype=object)


def _start(first_day: date) -> pd.Timestamp:
    return pd.Timestamp(datetime.combine(first_day, time(), UTC)).as_unit("us")


def _times(first_day: date, days: Floats) -> pd.DatetimeIndex:
    """Instants so many days after the begin of `first_day`, to the microsecond."""
    return _start(first_day) + pd.to_timedelta((days * SECONDS_PER_DAY * 1e6).astype("timedelta64[us]"))
