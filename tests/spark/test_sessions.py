"""Sessions against a plain Python oracle, on random logs with ties and exact gaps."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from halflife.transformations import sessions

START = datetime(2026, 3, 29, tzinfo=UTC)
GAP = 1_800.0
COLUMNS = "user_id string, item_id string, event_time timestamp, event_id string, given_session_id string"


def random_log(seed: int, users: int = 40, events: int = 30) -> list[tuple[Any, ...]]:
    """Events with gaps around the limit (exactly on it too) and of zero; every third user has sessions of its own."""
    chance = random.Random(seed)
    rows = []
    for user in range(users):
        time = START
        for number in range(events):
            time += timedelta(seconds=chance.choice([0, 0, 1, 1_799, 1_800, 1_801, 86_400]))
            given = f"basket{number // 4}" if user % 3 == 0 and chance.random() < 0.7 else None
            rows.append((f"u{user}", f"i{chance.randrange(4)}", time, f"e{number:03}", given))
    chance.shuffle(rows)
    return rows


def oracle(rows: list[tuple[Any, ...]]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """(session key, position, gap, revisit gap, revisit count) of each event, in ten lines."""
    placed = {}
    for user in {row[0] for row in rows}:
        last, unnamed_last, start = None, None, None
        seen: dict[str, list[datetime]] = defaultdict(list)
        sizes: dict[Any, int] = defaultdict(int)
        for _, item, time, event, given in sorted((r for r in rows if r[0] == user), key=lambda r: (r[2], r[3])):
            if given is None:
                if unnamed_last is None or (time - unnamed_last).total_seconds() > GAP:
                    start = time
                unnamed_last = time
            key = given or start
            gap = None if last is None else (time - last).total_seconds()
            revisit = (time - seen[item][-1]).total_seconds() if seen[item] else None
            placed[user, event] = (key, sizes[key], gap, revisit, len(seen[item]))
            last, sizes[key] = time, sizes[key] + 1
            seen[item].append(time)
    return placed


def assigned(spark: SparkSession, rows: list[tuple[Any, ...]]) -> DataFrame:
    return sessions.assign(spark.createDataFrame(rows, COLUMNS), GAP)


def test_every_event_has_the_place_that_the_oracle_gives_it(spark: SparkSession) -> None:
    rows = random_log(seed=1)
    expected = oracle(rows)
    found = assigned(spark, rows).collect()
    assert len(found) == len(rows)
    names: dict[tuple[str, Any], set[str]] = defaultdict(set)
    for row in found:
        key, *place = expected[row["user_id"], row["event_id"]]
        names[row["user_id"], key].add(row["session_id"])
        assert [
            row["session_position"],
            row["gap_seconds"],
            row["revisit_gap_seconds"],
            row["revisit_count"],
        ] == place
        assert row["session_given"] == isinstance(key, str)
    assert all(len(ids) == 1 for ids in names.values())
    assert len({(user, *ids) for (user, _), ids in names.items()}) == len(names)


def test_ids_stay_the_same_whatever_else_is_in_the_log(spark: SparkSession) -> None:
    rows = random_log(seed=2)
    one = [row for row in rows if row[0] == "u1"]
    alone = {row["event_id"]: row["session_id"] for row in assigned(spark, one).collect()}
    among = {row["event_id"]: row["session_id"] for row in assigned(spark, rows).where("user_id = 'u1'").collect()}
    assert alone == among


def test_engaged_time_is_dwell_where_known_and_capped_gaps_otherwise(spark: SparkSession) -> None:
    times = [0, 100, 100 + 1_800]
    rows = [("u", "i", START + timedelta(seconds=s), f"e{n}", "one") for n, s in enumerate(times)]
    events = assigned(spark, rows).selectExpr(
        "*", "0 as user_index", "if(event_id = 'e1', 7.0D, null) as dwell_seconds"
    )
    (session,) = sessions.summarise(events, gap_seconds=600.0).collect()
    assert session["engaged_seconds"] == 0 + 7 + 600
    assert (session["events"], session["items"]) == (3, 1)
    assert session["end_time"] - session["start_time"] == timedelta(seconds=1_900)
