"""The Delta table that a delivery makes: its columns, statistics, log and files that it needs no longer."""

from __future__ import annotations

import os
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from halflife import cli
from halflife.delivery.files import change, statistics
from halflife.errors import AuditError
from halflife.warehouse import Stored
from lake_team import NEXT, NIGHT, Team
from small_night import staged


def stage(team: Team, night: date, table: pa.Table) -> None:
    run = staged(team.store, "later", 5, night)
    pq.write_table(table, run.path("metrics") / "part-0.parquet")
    team.store.publish(run, {}, {})


def test_a_table_gets_the_columns_of_a_later_night_and_no_other_types(team: Team) -> None:
    team.publish(NIGHT, 1)
    team.deliver(NIGHT)
    stage(team, NEXT, pa.table({"value": [5], "more": ["m"]}))
    team.deliver(NEXT)
    assert [field.name for field in DeltaTable(f"{team.address}/metrics").schema().fields] == ["value", "as_of", "more"]
    assert (team.values(NIGHT), team.values(NEXT)) == ([1], [5])
    other = NEXT + timedelta(days=1)
    stage(team, other, pa.table({"value": ["five"]}))
    with pytest.raises(AuditError, match=r"value is .*long.* there and .*string.* tonight"):
        team.deliver(other)


def test_lists_are_delivered_and_unsigned_numbers_are_refused_in_them_too(tmp_path: Path) -> None:
    team = Team(tmp_path / "team", str(tmp_path / "lake"))
    for night in (NIGHT, NEXT):
        stage(team, night, pa.table({"value": pa.array([[0.5, 0.25]], pa.list_(pa.float32()))}))
        team.deliver(night)
    assert team.values(NEXT) == [[0.5, 0.25]]
    for place, kind in enumerate((pa.uint8(), pa.list_(pa.uint8()), pa.struct([("in", pa.list_(pa.uint8()))])), 2):
        other = NIGHT + timedelta(days=place)
        stage(team, other, pa.table({"value": pa.array([None], kind)}))
        with pytest.raises(AuditError, match="value: Delta has no uint8"):
            team.deliver(other)


def test_a_commit_tells_which_run_it_is_and_the_range_of_each_file(team: Team) -> None:
    team.publish(NIGHT, 1, 5)
    team.deliver(NIGHT)
    table = DeltaTable(f"{team.address}/metrics")
    manifest = team.store.manifest("evaluate", NIGHT)
    assert manifest is not None
    assert table.history(1)[0]["halflifeRun"] == manifest["run_id"]
    added = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    assert sorted((row["num_records"], row["min.value"], row["max.value"]) for row in added) == [(1, 1, 1), (1, 5, 5)]


def test_statistics_leave_out_columns_that_a_row_group_does_not_tell(tmp_path: Path) -> None:
    rows = pa.table({"user_id": ["b", "a", None], "item_id": ["x", "y", "z"], "score": [0.1, float("nan"), 0.3]})
    pq.write_table(rows, tmp_path / "some.parquet", row_group_size=2, write_statistics=["user_id", "score"])
    assert statistics(pq.read_metadata(tmp_path / "some.parquet")) == {
        "numRecords": 3,
        "minValues": {},
        "maxValues": {},
        "nullCount": {},
    }
    pq.write_table(rows.slice(0, 2), tmp_path / "all.parquet", row_group_size=1, write_statistics=["user_id"])
    assert statistics(pq.read_metadata(tmp_path / "all.parquet")) == {
        "numRecords": 2,
        "minValues": {"user_id": "a"},
        "maxValues": {"user_id": "b"},
        "nullCount": {"user_id": 0},
    }


def test_a_log_of_ten_entries_gets_a_checkpoint_that_readers_begin_with(tmp_path: Path) -> None:
    team = Team(tmp_path / "team", str(tmp_path / "lake"))
    for place in range(10):
        team.publish(NIGHT + timedelta(days=place), 1)
        team.deliver(NIGHT + timedelta(days=place))
    assert (tmp_path / "lake" / "metrics" / "_delta_log" / "_last_checkpoint").exists()
    assert len(team.lake().files) == 10


def test_equal_files_count_as_often_as_they_are() -> None:
    digest = "d" * 64
    files = [Stored(Path(name), {"rows": 1, "sha256": digest}) for name in ("a", "b")]
    there = [f"as_of=2026-01-02/{digest}-00000000.parquet"]
    assert len(change(there, files).copy) == 1
    assert change([*there, *there], files).copy == []
    assert change([*there * 3, "as_of=2026-01-02/part-0.parquet"], files).remove == [
        there[0],
        "as_of=2026-01-02/part-0.parquet",
    ]


def test_files_that_were_replaced_lately_stay_for_readers_of_older_versions(
    team: Team, capsys: pytest.CaptureFixture[str]
) -> None:
    team.publish(NIGHT, 1)
    team.deliver(NIGHT)
    team.publish(NIGHT, 2)
    team.deliver(NIGHT)
    cli.main(["vacuum", "--config", str(team.config), "--remove"])
    assert "0 files removed" in capsys.readouterr().out


def test_the_log_forgets_the_ranges_of_files_that_left_long_ago(tmp_path: Path) -> None:
    team = Team(tmp_path / "team", str(tmp_path / "lake"))
    team.publish(NIGHT, 12345)
    team.deliver(NIGHT)
    team.publish(NIGHT, 2)
    team.deliver(NIGHT)
    log = tmp_path / "lake" / "metrics" / "_delta_log"
    vacuum = ["vacuum", "--config", str(team.config), "--remove"]
    cli.main(vacuum)  # makes a checkpoint, which has to be as old as the entries that it stands for
    assert any(b"12345" in file.read_bytes() for file in log.iterdir())
    long_ago = time.time() - timedelta(days=30).total_seconds()
    for file in log.iterdir():
        os.utime(file, (long_ago, long_ago))
    cli.main(vacuum)
    assert not any(b"12345" in file.read_bytes() for file in log.iterdir())
    assert team.values(NIGHT) == [2]


def test_duckdb_reads_the_files_that_the_log_lists(tmp_path: Path) -> None:
    team = Team(tmp_path / "team", str(tmp_path / "lake"))
    team.publish(NIGHT, 1, 2)
    team.deliver(NIGHT)
    files = DeltaTable(f"{team.address}/metrics").file_uris()
    rows = duckdb.connect().read_parquet(files, hive_partitioning=True)
    assert rows.aggregate("as_of, sum(value)").fetchall() == [(NIGHT, 3)]


@pytest.mark.parametrize("days", [3, 30])
def test_how_long_replaced_files_stay_follows_the_configuration(team: Team, days: int) -> None:
    team.publish(NIGHT, 1)
    team.publish(NEXT, 2)
    team.deliver(NIGHT)
    team.deliver(NEXT, f"deliver.replaced_days={days}")
    kept = DeltaTable(f"{team.address}/metrics").metadata().configuration
    assert kept["delta.deletedFileRetentionDuration"] == kept["delta.logRetentionDuration"] == f"interval {days} days"
    assert (team.values(NIGHT), team.values(NEXT)) == ([1], [2])
