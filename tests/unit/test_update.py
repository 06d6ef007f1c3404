"""Memory brought up to date in Arrow columns: nights one by one, one rebuild, late and lost events, and revivals."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halflife import decay
from halflife.memory import Pace
from halflife.scoring import update

HALF_LIVES = np.array([1 / 24, 7.0, 90.0])
PACE = Pace(HALF_LIVES, horizon_days=7.0, retained_share=0.25, silence_days=30.0)
START = datetime(2026, 1, 1, tzinfo=UTC)
RULES = update.Rules(Path("model"), PACE, faded_below=0.001)


class Model:
    """Jumps that differ from event to event, as a network's do."""

    def jumps(self, events: dict[str, Any]) -> Any:
        age = np.nan_to_num(events["revisit_gap_seconds"], nan=0.0)
        return np.abs(events["strength"])[:, None] * np.array([1.0, 0.5, 0.25]) / (1 + age[:, None] / 1e6)


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update, "model_of", lambda _: Model())


def log(*days: float, user: int = 0, item: int = 0, strength: float = 1.0) -> list[dict[str, Any]]:
    """Events of a pair."""
    return [
        {"user_index": user, "item_index": item, "event_time": START + timedelta(days=day), "strength": strength}
        for day in days
    ]


def events(rows: list[dict[str, Any]], removed: bool = False) -> pa.Table:
    """Events in the order in which they come to an update, with what a walk makes of them."""
    ordered = sorted(rows, key=lambda row: (row["user_index"], row["item_index"], row["event_time"]))
    last: dict[tuple[int, int], datetime] = {}
    made = []
    for place, row in enumerate(ordered):
        pair = row["user_index"], row["item_index"]
        gap = (row["event_time"] - last[pair]).total_seconds() if pair in last else None
        last[pair] = row["event_time"]
        others = {"event_id": f"{place}", "type_index": 2, "gap_seconds": None, "revisit_count": 0}
        made.append({**others, "session_position": 0, "revisit_gap_seconds": gap, **row})
    return pa.Table.from_pylist(made, update.EVENT_SCHEMA).append_column("removed", pa.array([removed] * len(made)))


def stored(folder: Path, table: pa.Table, rows_per_group: int = 50, statistics: bool = True) -> Path:
    """Events as a file of their table, by user."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(list(folder.iterdir()))}.parquet"
    rows = table.drop_columns(["removed"])
    pq.write_table(rows, path, row_group_size=rows_per_group, write_statistics=statistics)
    return path


def of_days(table: pa.Table, since: int, until: int) -> pa.Table:
    """The events from one day to another."""
    days = [(time - START).days for time in table["event_time"].to_pylist()]
    return table.filter(pa.array([since <= day < until for day in days]))


def random_log() -> pa.Table:
    chance = random.Random(5)
    rows = []
    for _ in range(400):
        pair = {"user": chance.randrange(5), "item": chance.randrange(3)}
        rows += log(chance.uniform(0, 60), **pair, strength=chance.uniform(-0.5, 1))
    return events(rows)


def test_nights_one_by_one_are_one_rebuild_bit_for_bit() -> None:
    whole = random_log()
    built = None
    for night in (0, 20, 40):
        built = update.memory(of_days(whole, night, night + 20), built, RULES, [])
    rebuilt = update.memory(whole, None, RULES, [])
    assert built == rebuilt
    assert sum(rebuilt["event_count"].to_pylist()) == len(whole)


def test_late_and_lost_events_give_what_a_rebuild_gives(tmp_path: Path) -> None:
    """Of the late ones' pairs the later jumps change too; a pair that lost all its events is gone."""
    rows = log(1, 5, 9) + log(2, 4, item=1) + log(3, user=4) + log(1, 8, user=7, item=2)
    first = events(rows)
    late = log(4, user=7, item=2)
    now = events([row for row in rows + late if row["user_index"] != 4])
    fresh, old = (
        {tuple(row.values()) for row in table.drop_columns(["event_id"]).to_pylist()} for table in (now, first)
    )
    names = [name for name in now.column_names if name != "event_id"]
    changed = [
        {**dict(zip(names, row, strict=True)), "event_id": "x", "removed": removed}
        for rows, removed in ((fresh - old, False), (old - fresh, True))
        for row in rows
    ]
    ordered = sorted(changed, key=lambda row: (row["user_index"], row["item_index"], row["event_time"]))
    changes = pa.Table.from_pylist(ordered, now.schema)
    files = [stored(tmp_path, of_days(now, 0, 4)), stored(tmp_path, of_days(now, 4, 99), rows_per_group=1)]
    found = update.memory(changes, update.memory(first, None, RULES, []), RULES, files)
    assert found == update.memory(now, None, RULES, [])
    assert set(found["user_index"].to_pylist()) == {0, 7}


@pytest.mark.parametrize("statistics", [True, False])
def test_events_are_looked_up_in_every_range_of_users_whether_or_not_files_tell_it(
    tmp_path: Path, statistics: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of users that lie far apart only the row groups that may hold one are read: all, where nothing is told."""
    whole = events([row for user in range(0, 20, 2) for row in log(1, 2, user=user)])
    path = stored(tmp_path / "files", whole, rows_per_group=4, statistics=statistics)
    read: list[int] = []
    plain = pq.ParquetFile.read_row_group

    def noted(file: pq.ParquetFile, group: int, *args: Any, **kwargs: Any) -> pa.Table:
        read.append(group)
        return plain(file, group, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    found = update.events_of([path], update.pair_key(np.array([0, 11, 18]), np.zeros(3, dtype=np.int64)))
    assert found["user_index"].to_pylist() == [0, 0, 18, 18]
    assert set(read) == ({0, 4} if statistics else {0, 1, 2, 3, 4})


def test_a_file_of_events_is_opened_only_where_a_pair_may_be_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [stored(tmp_path / "files", events(log(1, user=user))) for user in range(3)]
    stale = update.pair_key(np.array([1]), np.array([0]))
    assert len(update.events_of(files, stale)) == 1
    monkeypatch.setattr(pq, "read_metadata", lambda _: pytest.fail("a footer was read twice"))
    for path in (files[0], files[2]):
        path.unlink()
    assert len(update.events_of(files, stale)) == 1


def test_a_band_whose_old_file_has_become_empty_begins_anew() -> None:
    rows = events(log(1, 5) + log(3, user=4))
    empty = update.memory(rows, None, RULES, []).slice(0, 0)
    assert update.memory(rows, empty, RULES, []) == update.memory(rows, None, RULES, [])


def test_users_whose_events_are_gone_lose_their_read_outs() -> None:
    def states(**readouts: list[float] | None) -> pa.Table:
        rows = [{"user_index": int(u[1:]), "anchor_time": r and START, "readouts": r} for u, r in readouts.items()]
        return pa.Table.from_pylist(rows, pa.schema([field.with_nullable(True) for field in update.USER_STATES]))

    old = update.user_states(states(u1=[1.0], u2=[2.0], u3=[3.0]), None)
    marked = states(u0=None, u2=None, u3=None)
    found = update.user_states(pa.concat_tables([marked, states(u0=[9.0], u2=[8.0])]), old)
    assert found["user_index"].to_pylist() == [0, 1, 2]
    assert found["readouts"].to_pylist() == [[9.0], [1.0], [8.0]]


def test_the_sum_is_that_of_the_closed_form() -> None:
    rows = log(0.0, strength=2.0) + log(3.5, strength=0.5) + log(10.0) + log(1.0, strength=-1.0)
    changes = events(rows)
    (row,) = update.memory(changes, None, RULES, []).to_pylist()
    jumps = Model().jumps({name: changes[name].to_numpy() for name in ("strength", "revisit_gap_seconds")})
    ages = np.array([10.0 - (time - START).total_seconds() / 86_400 for time in changes["event_time"].to_pylist()])
    left = jumps * decay.decay(ages, HALF_LIVES)
    negative = changes["strength"].to_numpy() < 0
    np.testing.assert_allclose(row["positive"], left[~negative].sum(axis=0), rtol=1e-14)
    np.testing.assert_allclose(row["negative"], left[negative].sum(axis=0), rtol=1e-14)
    assert row["anchor_time"] == START + timedelta(days=10)


def test_the_leading_event_and_the_night_of_fading_are_in_the_state() -> None:
    rows = log(0.5, strength=2.0) + log(3.5, strength=0.001) + log(0.0, item=1, strength=-1.0)
    first, second = update.memory(events(rows), None, RULES, []).to_pylist()
    assert (first["leading_time"], first["leading"]) == (rows[0]["event_time"], [2.0, 1.0, 0.5])
    assert first["leading_type"] == 2
    days = np.arange(1, 3_000)
    faded = Model().jumps({"strength": np.array([2.0, 0.001]), "revisit_gap_seconds": np.array([np.nan, 3 * 86_400.0])})
    left = sum(
        (decay.decay_integral(days - at, HALF_LIVES, 7.0) * jump).sum(axis=1)
        for at, jump in zip((0.5, 3.5), faded, strict=True)
    )
    assert first["faded_on"] == (START + timedelta(days=int(days[left < 0.001][0]))).date()
    assert second["faded_on"] is None


@pytest.mark.parametrize(
    ("days", "revived"),
    [
        ([0.0], False),  # a first event brings nothing back
        ([0.0, 29.0], False),  # the silence was too short
        ([0.0, 60.0], True),  # of the three channels 0, .002 and .16 are left
        ([0.0, 60.0, 61.0], False),  # the newest event did not end a silence
    ],
)
def test_a_pair_is_revived_by_an_event_after_a_long_silence(days: list[float], revived: bool) -> None:
    (row,) = update.memory(events(log(*days)), None, RULES, []).to_pylist()
    assert row["revived"] is revived


def test_a_memory_that_kept_its_strength_is_not_revived(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = np.array([[0.0, 0.0, 1.0]])
    monkeypatch.setattr(Model, "jumps", lambda self, events: np.abs(events["strength"])[:, None] * slow)
    (row,) = update.memory(events(log(0.0, 40.0)), None, RULES, []).to_pylist()
    assert row["revived"] is False
