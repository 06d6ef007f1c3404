"""The files that a walk writes: events, sessions and sequences by part, at once or night by night."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import schemas
from halflife.histories import rows as history
from halflife.histories import sequences
from halflife.histories.context import context_of
from halflife.histories.derive import derive
from halflife.histories.files import FORMS
from halflife.histories.past import Past
from halflife.histories.rows import PUBLISHED, TONIGHT
from halflife.histories.walk import ACTIVE, LISTING, Settings, bucket_of, walk
from histories_log import (
    ARRAYS,
    DAY,
    FILES,
    RULES,
    SECOND,
    START,
    USERS_PER_FILE,
    Event,
    batches,
    in_order,
    oracle,
    settings,
    table,
    walked,
)

LENGTH = 4
SETTLED_DAYS = ("2024-10-03", "2024-10-04", "2024-10-05", "2024-10-06")


def random_log(seed: int, users: int = 7, events: int = 60, given: bool = False) -> list[Event]:
    """Five days of bursts, with a few duplicates; every second session of some users has an id of its own."""
    chance = random.Random(seed)
    log = []
    for user in range(users):
        for _ in range(events if user else 8 * events):
            burst = chance.randrange(15)  # one of each day goes on after midnight
            micros = START + burst * DAY // 3 + chance.randrange(-1_500, 1_500) * SECOND
            session = f"s{burst}" if given and user % 2 and chance.random() < 0.5 else None
            dwell = chance.choice([None, 0.125 * chance.randrange(900)])
            key = chance.getrandbits(62)
            event = Event(user, micros, key, chance.randrange(5), None, 0, 0, session, dwell, chance.randrange(3))
            log += [event] * chance.choice([1] * 9 + [2])
    return in_order(log)


def rows_of(told: Settings) -> tuple[list[dict[str, Any]], ...]:
    return (
        table(told, "events", "user_index", "event_time", "event_id"),
        table(told, "sessions", "user_index", "start_time", "session_id"),
        table(told, "sequences", "user_index"),
    )


def test_files_hold_what_the_oracle_finds_in_the_tables_columns(tmp_path: Path) -> None:
    log = random_log(1, given=True)
    listing = walked(log, told := settings(tmp_path), batch=100)
    events, summed, last = rows_of(told)
    found, expected_sessions, duplicates = oracle(log)
    assert [(row["user_id"], row["event_id"]) for row in events] == [(row["user_id"], row["event_id"]) for row in found]
    for row, wanted in zip(events, found, strict=True):
        del wanted["session"]
        assert {name: row[name] for name in wanted} == wanted
    assert len(summed) == len(expected_sessions)
    assert {row["user_index"]: row["item_index"][: row["length"]] for row in last} == {
        user: [row["item_index"] for row in rows][-LENGTH:] for user, rows in groupby(events, lambda r: r["user_index"])
    }
    counts = {row["file_index"]: row["duplicates"] for row in listing if row["table"] is None and row["duplicates"]}
    assert counts == duplicates
    assert sum(row["accepted"] for row in listing if row["table"] is None) == len(events)


def test_each_file_is_listed_and_holds_the_rows_of_its_part_in_order(tmp_path: Path) -> None:
    listing = walked(random_log(2), told := settings(tmp_path, settled_before_micros=START + 3 * DAY), batch=50)
    for name, time in (("events", "event_time"), ("sessions", "start_time")):
        files = {row["part"]: row for row in listing if row["table"] == name}
        assert set(files) == {"settled", "2024-10-07", "2024-10-08"}
        assert {row["file"] for row in files.values()} == {path.name for path in Path(told.folders[name]).iterdir()}
        for part, row in files.items():
            read = pq.read_table(Path(told.folders[name]) / row["file"])
            assert len(read) == row["rows"]
            days = {time.date().isoformat() for time in read[time].to_pylist()}
            assert days == ({part} if part != "settled" else set(SETTLED_DAYS))
            if name == "events":
                keys = [tuple(row.values()) for row in read.select(["user_index", time, "event_id"]).to_pylist()]
                assert keys == sorted(keys)
    parts = {row["part"]: row["rows"] for row in listing if row["table"] == "sequences"}
    assert parts == {"users-000000": 2, "users-000001": 2, "users-000002": 2, "users-000003": 1}
    assert [bucket_of(part) for part in parts] == [0, 1, 2, 3]


@pytest.mark.parametrize("table_name", FORMS)
def test_files_have_the_types_that_the_schemas_name(tmp_path: Path, table_name: str) -> None:
    walked(random_log(3), told := settings(tmp_path))
    for path in Path(told.folders[table_name]).iterdir():
        read = pq.read_schema(path)
        wanted = to_arrow_schema(getattr(schemas, table_name.upper()))
        assert read.names == wanted.names
        assert [_kind(field) for field in read] == [_kind(field) for field in wanted]
        assert [field.nullable for field in read] == [field.nullable for field in wanted]


def _kind(field: pa.Field) -> str:
    """Its type, whatever the parts of a nested one are called."""
    return str(field.type).replace("element: ", "item: ").replace(" ('context')", "")


@pytest.mark.parametrize(("chunk_rows", "batch"), [(1, 1), (1, 7), (64, 10)])
def test_the_size_of_chunks_changes_no_row(tmp_path: Path, chunk_rows: int, batch: int) -> None:
    log = random_log(4, users=5, events=30, given=True)
    walked(log, whole := settings(tmp_path))
    walked(log, pieces := settings(tmp_path, "pieces", chunk_rows=chunk_rows), batch=batch)
    assert rows_of(pieces) == rows_of(whole)


def test_a_rerun_changes_no_byte(tmp_path: Path) -> None:
    log = random_log(5)
    contents = []
    for name in ("one", "two"):
        walked(log, told := settings(tmp_path, name, chunk_rows=100), batch=30)
        files = [path for folder in told.folders.values() for path in Path(folder).iterdir()]
        contents.append(sorted(path.read_bytes() for path in files))
    assert contents[0] == contents[1]


def features(row: dict[str, Any]) -> dict[str, float]:
    """What the network sees of one row of events."""
    seconds = row["event_time"] / SECOND
    return {
        "item_index": row["item_index"],
        "type_index": row["type_index"],
        "strength": row["strength"],
        "event_seconds": seconds,
        "revisit_count": row["revisit_count"],
        "session_position": row["session_position"],
        "hour": int(seconds // 3_600 % 24),
        "weekday": int((seconds // 86_400 + 3) % 7),
    }


def test_sequences_hold_the_last_events_oldest_first_and_zeros_behind(tmp_path: Path) -> None:
    walked(random_log(6, events=3), told := settings(tmp_path, sequence_length=7, chunk_rows=10), batch=3)
    events, _, last = rows_of(told)
    of_user = defaultdict(list)
    for row in events:
        of_user[row["user_index"]].append(row)
    assert [row["user_index"] for row in last] == sorted(of_user)
    for row in last:
        wanted = of_user[row["user_index"]][-7:]
        assert (row["length"], row["last_event_time"]) == (len(wanted), wanted[-1]["event_time"])
        for place, event in enumerate(wanted):
            assert {name: row[name][place] for name in features(event)} == features(event)
            assert row["gap_log"][place] == pytest.approx(log1p(event["gap_seconds"]), rel=1e-6)
            assert row["revisit_gap_log"][place] == pytest.approx(log1p(event["revisit_gap_seconds"]), rel=1e-6)
        assert all(row[name][len(wanted) :] == [0] * (7 - len(wanted)) for name in ARRAYS)


def log1p(seconds: float | None) -> float:
    return 0.0 if seconds is None else math.log1p(seconds)


def window(published: list[dict[str, Any]], log: list[Event], tonight: list[Event], start: int) -> list[Event]:
    """The rows that are walked again for tonight's: those published from `start` on."""
    by_place = {(f"user {event.user_index}", event.micros, event_key(event)): event for event in log}
    again = [by_place[row["user_id"], row["event_time"], row["event_id"]] for row in published]
    return [*(replace(event, role=PUBLISHED) for event in again if event.micros >= start), *tonight]


def past(told: Settings, start: int, given: bool) -> Past:
    """What lies before `start` of the events that a walk has written."""
    reach = start - RULES.gap_micros - RULES.max_session_micros
    days = {}  # the last day of each file
    for file in Path(told.folders["events"]).iterdir():
        settled = file.name.startswith("settled")
        last = told.settled_before_micros - 1 if settled else int(np.datetime64(file.name[:10], "us").astype(int))
        days[str(file)] = last // DAY
    kept = sorted((day, file) for file, day in days.items() if day < start // DAY)
    near = frozenset(file for day, file in kept if day >= reach // DAY)
    return Past([file for _, file in kept], near, reach, given)


def _by_id(session: dict[str, Any]) -> tuple[int, str]:
    return session["user_index"], session["session_id"]


def event_key(event: Event) -> str:
    return event.event_id or f"~{event.event_key % 2**64:016x}"


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("chunk_rows", [1, 1_000])
def test_a_night_with_late_events_gives_what_a_walk_over_everything_gives(
    tmp_path: Path, given: bool, chunk_rows: int
) -> None:
    """Some of the last two days' events come late, and some users have none of these days."""
    start = START + 3 * DAY
    log = [event for event in random_log(7, given=given) if event.user_index not in (3, 4, 5) or event.micros < start]
    chance = random.Random(8)
    late = {id(event) for event in log if event.micros >= start and chance.random() < 0.4}
    first, tonight = [e for e in log if id(e) not in late], [e for e in log if id(e) in late]
    walked(first, one := settings(tmp_path))
    old = {bucket_of(path.name[:12]): [str(path)] for path in Path(one.folders["sequences"]).iterdir()}
    changes = {"restate_from_micros": start, "old_sequences": old, "settled_before_micros": start}
    changes["past"] = past(one, start, given)
    told = settings(tmp_path, "tonight", chunk_rows=chunk_rows, **changes)
    published, old_sessions, old_last = rows_of(one)
    listing = walked(window(published, first, tonight, start), told, batch=5 if chunk_rows == 1 else 1_000)
    walked(log, whole := settings(tmp_path, "whole"))
    events, summed, last = rows_of(told)
    all_events, all_sessions, all_last = rows_of(whole)

    assert events == [row for row in all_events if row["event_time"] >= start]
    resumed = {_by_id(row) for row in summed}
    kept = [row for row in old_sessions if row["end_time"] < start and _by_id(row) not in resumed]
    assert any(row["start_time"] < start for row in summed)
    assert sorted(kept + summed, key=_by_id) == sorted(all_sessions, key=_by_id)
    buckets = {bucket_of(row["part"]) for row in listing if row["table"] == "sequences"}
    assert buckets == {0, 1, 3}
    kept = [row for row in old_last if row["user_index"] // USERS_PER_FILE not in buckets]
    assert sorted(kept + last, key=lambda row: row["user_index"]) == all_last
    active = {event.user_index for event in tonight}
    assert 1 < len(active) < len(last)
    assert table(told, "active_sequences") == [row for row in all_last if row["user_index"] in active]
    counted = [row for row in listing if row["table"] is None]
    assert sum(row["accepted"] + row["duplicates"] for row in counted) == len(tonight)


@pytest.mark.parametrize("chunk_rows", [1, 1_000])
def test_a_given_session_of_long_ago_goes_on_though_the_users_first_row_has_none(
    tmp_path: Path, chunk_rows: int
) -> None:
    basket = Event(0, START, 1, given_session_id="basket", dwell_seconds=2.0)
    others = [Event(0, START + 2 * DAY, 2, 3), Event(0, START + 4 * DAY, 3, 2)]
    walked([basket, others[0]], one := settings(tmp_path))
    start = START + 3 * DAY
    told = settings(tmp_path, "tonight", chunk_rows=chunk_rows, past=past(one, start, given=True))
    walked([others[1], replace(basket, micros=START + 5 * DAY, event_key=4)], told, batch=1)
    _, summed, _ = rows_of(told)
    (found,) = [row for row in summed if row["session_id"] == "basket"]
    assert (found["start_time"], found["events"], found["items"], found["engaged_seconds"]) == (START, 2, 1, 4.0)


def test_a_file_whose_users_were_all_forgotten_tells_nothing(tmp_path: Path) -> None:
    walked([Event(0, START, 1)], one := settings(tmp_path))
    (file,) = Path(one.folders["events"]).iterdir()
    empty = pq.read_table(file).slice(0, 0)
    with pq.ParquetWriter(file, empty.schema) as writer:
        writer.write_table(empty)
    told = settings(tmp_path, "tonight", past=past(one, START + 3 * DAY, given=True))
    walked([Event(0, START + 4 * DAY, 2)], told)
    assert [(row["gap_seconds"], row["revisit_count"]) for row in table(told, "events")] == [(None, 0)]


def test_a_walk_without_a_folder_for_active_sequences_writes_none(tmp_path: Path) -> None:
    whole = settings(tmp_path)
    told = replace(whole, folders={name: path for name, path in whole.folders.items() if name != ACTIVE})
    assert {row["table"] for row in walked([Event(0, START, 1)], told)} == {*told.folders, None}


def test_active_sequences_of_a_bucket_are_a_row_group_and_a_duplicate_makes_nobody_active(tmp_path: Path) -> None:
    known = Event(1, START, 1, role=PUBLISHED)
    users = [0, USERS_PER_FILE, 3 * USERS_PER_FILE]
    log = [*(Event(user, START, 2) for user in users), known, replace(known, role=TONIGHT)]
    walked(log, told := settings(tmp_path))
    (file,) = Path(told.folders[ACTIVE]).iterdir()
    with pq.ParquetFile(file) as read:
        groups = [read.read_row_group(n)["user_index"].to_pylist() for n in range(read.num_row_groups)]
    assert groups == [[user] for user in users]


def test_only_users_with_rows_lose_what_is_walked_again_of_their_stored_sequence(tmp_path: Path) -> None:
    """Both have an event at the very start of the window; tonight's rows are of the first user alone."""
    stored = [Event(user, START + hour * 3_600 * SECOND, hour) for user in (0, 1) for hour in (22, 23, 24)]
    walked(stored, one := settings(tmp_path))
    (old,) = Path(one.folders["sequences"]).iterdir()
    told = settings(tmp_path, "tonight", restate_from_micros=START + DAY, old_sequences={0: [str(old)]})
    walked([replace(stored[2], role=PUBLISHED), Event(0, START + DAY + 1, 9)], told)
    last = {row["user_index"]: row["event_seconds"][: row["length"]] for row in table(told, "sequences")}
    hours = [(START + hour * 3_600 * SECOND) / SECOND for hour in (22, 23, 24)]
    assert last == {0: [*hours, (START + DAY + 1) / SECOND], 1: hours}


def test_no_file_is_left_after_an_error(tmp_path: Path) -> None:
    told = settings(tmp_path, chunk_rows=10)

    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches(random_log(9), 40)
        raise OSError("the shuffle file is gone")

    with pytest.raises(OSError, match="shuffle"):
        list(walk(broken(), told))
    assert not [path for folder in told.folders.values() for path in Path(folder).iterdir()]


def test_no_rows_make_no_files(tmp_path: Path) -> None:
    told = settings(tmp_path)
    (listing,) = walk(iter([]), told)
    assert (listing.num_rows, listing.schema) == (0, LISTING)


def test_what_a_chunk_must_know_does_not_grow_with_a_users_events() -> None:
    """Of one user with 200,000 events of 5 items, a chunk carries as many rows as of one with 2,000."""
    (first,) = batches([Event(0, START, n, n % 5) for n in range(2_000)])
    carried, sizes = None, []
    for chunk in range(100):
        seconds = (np.arange(2_000) + 2_000 * chunk) * 400
        rows = replace(history.from_batches([first]), micros=START + seconds * SECOND)
        carried = context_of(derive(rows if carried is None else history.concat(carried, rows), RULES))
        sizes.append(len(carried))
    assert max(sizes) == sizes[0] == 5


def test_published_events_give_the_same_sequences(tmp_path: Path) -> None:
    """What training reads of the table of events, in whatever batches, is what the walk wrote."""
    walked(random_log(10), told := settings(tmp_path))
    read = pa.concat_tables([pq.read_table(path) for path in Path(told.folders["events"]).iterdir()])
    read = read.sort_by([("user_index", "ascending"), ("event_time", "ascending"), ("event_id", "ascending")])
    wanted = table(told, "sequences", "user_index")
    for size, chunk_rows in ((10_000, 10_000), (7, 20)):
        made = pa.Table.from_batches(sequences.last_events(read.to_batches(size), LENGTH, chunk_rows))
        for row, of_user in zip(made.sort_by("user_index").to_pylist(), wanted, strict=True):
            assert row["user_index"] == of_user["user_index"]
            for name, kind in sequences.FEATURES.items():
                assert np.frombuffer(row[name], kind).tolist() == of_user[name][: of_user["length"]]


def test_sources_and_types_are_named(tmp_path: Path) -> None:
    log = random_log(11, users=2)
    walked(log, told := settings(tmp_path))
    files = {(row["source"], row["source_file"]) for row in table(told, "events")}
    assert files == set(FILES)
    assert {(row["event_type"], row["type_index"]) for row in table(told, "events")} == {("view", 0), ("skip", 1)}
