"""Nights are delivered to a lake: on a disk, and on a local S3 server that enforces conditional PUTs."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder
from pyarrow import fs

from halflife import cli, config, crash, delivery
from halflife.command import Job
from halflife.delivery.files import change, statistics
from halflife.delivery.table import LakeTable
from halflife.errors import AuditError, ConfigError, InputMissingError, PublishConflictError, StorageError
from halflife.pipelines import deliver
from halflife.warehouse import FILES, JOB_OF, Stored, Warehouse
from s3_server import Fault, Server, running
from small_night import staged

NIGHT = date(2026, 1, 2)
NEXT = NIGHT + timedelta(days=1)
YAML = "sources: {log: {path: 'x-{date}', event_type: purchase, columns: {user: u, item: i, time: t}}}\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["disk", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the lake is."""
    if request.param == "disk":
        return str(tmp_path / "lake")
    return s3_address(request.getfixturevalue("server"), monkeypatch)


@pytest.fixture
def on_s3(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    return s3_address(server, monkeypatch)


def s3_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.fail()
    return f"{server.bucket(f'bucket-{os.urandom(4).hex()}')}/lake"


class Team:
    """A warehouse whose table `metrics` has one column, and the lake that it is delivered to."""

    def __init__(self, folder: Path, address: str) -> None:
        folder.mkdir(exist_ok=True)
        self.address = address
        self.store = Warehouse(folder / "warehouse")
        self.config = folder / "config.yaml"
        self.config.write_text(
            f"warehouse: {self.store.root}\n{YAML}event_types: {{purchase: {{weight: 1}}}}\n"
            f"deliver: {{to: '{address}', tables: [metrics]}}\n"
        )

    def publish(self, night: date, *values: int, inputs: str | None = None) -> None:
        """Publish a night whose table has a file with each of the values."""
        run = staged(self.store, inputs or str(values), values[0], night)
        for place, value in enumerate(values[1:], 1):
            pq.write_table(pa.table({"value": [value]}), run.path("metrics") / f"part-{place}.parquet")
        self.store.publish(run, {}, {})

    def deliver(self, night: date, *settings: str) -> str:
        """Deliver a night; returns what the job says."""
        said = StringIO()
        deliver.run(Job("deliver", night, config.load(self.config, list(settings)), said, until=night))
        return said.getvalue()

    def lake(self) -> LakeTable:
        return LakeTable(f"{self.address}/metrics")

    def values(self, night: date) -> list[int]:
        """The night as a reader of Delta sees it."""
        table = DeltaTable(f"{self.address}/metrics")
        rows = (
            QueryBuilder()
            .register("metrics", table)
            .execute(f"SELECT value FROM metrics WHERE as_of = '{night}' ORDER BY value")
        )
        found: list[int] = pa.table(rows.read_all())["value"].to_pylist()
        return found


@pytest.fixture
def team(tmp_path: Path, address: str) -> Team:
    return Team(tmp_path / "team", address)


def at_point(monkeypatch: pytest.MonkeyPatch, part: str, act: Callable[[], Any]) -> None:
    """Do something once, when a job comes to the first crash point with `part` in its name."""
    left = [act]

    def point(name: str) -> None:
        if part in name and left:
            left.pop()()

    monkeypatch.setattr(crash, "point", point)


def test_a_night_is_a_partition_that_delta_readers_see(team: Team) -> None:
    team.publish(NIGHT, 1, 2, 3)
    team.publish(NEXT, 4)
    assert "delivered metrics 2026-01-02 3 rows" in team.deliver(NIGHT)
    team.deliver(NEXT)
    assert (team.values(NIGHT), team.values(NEXT)) == ([1, 2, 3], [4])


def test_a_night_that_is_there_is_left_alone(team: Team) -> None:
    team.publish(NIGHT, 1, 2)
    team.deliver(NIGHT)
    before = DeltaTable(f"{team.address}/metrics").version()
    assert "nothing to do" in team.deliver(NIGHT)
    assert DeltaTable(f"{team.address}/metrics").version() == before


def test_a_night_that_was_run_again_replaces_itself_in_one_commit_and_copies_only_what_is_new(team: Team) -> None:
    team.publish(NIGHT, 1, 2)
    team.deliver(NIGHT)
    before, version = set(team.lake().files[NIGHT]), DeltaTable(f"{team.address}/metrics").version()
    team.publish(NIGHT, 1, 3)
    assert "1 rows" in team.deliver(NIGHT)
    assert team.values(NIGHT) == [1, 3]
    assert len(before & set(team.lake().files[NIGHT])) == 1
    assert DeltaTable(f"{team.address}/metrics").version() == version + 1
    assert sorted(DeltaTable(f"{team.address}/metrics", version=version).file_uris()) == sorted(
        f"{team.address}/metrics/{path}" for path in before
    )


def test_an_earlier_night_that_has_changed_since_is_delivered_too(team: Team) -> None:
    team.publish(NIGHT, 1)
    team.deliver(NIGHT)
    team.publish(NIGHT, 2)
    team.publish(NEXT, 3)
    team.deliver(NEXT)
    assert (team.values(NIGHT), team.values(NEXT)) == ([2], [3])


def test_a_user_who_was_forgotten_leaves_the_lake(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.publish(NIGHT, 1, 2)
    team.deliver(NIGHT)

    def without_one(table: str, file: Path, fresh: Path) -> bool:
        if file.suffix != ".parquet" or pq.read_table(file)["value"].to_pylist() != [1]:
            return False
        pq.write_table(pa.table({"value": pa.array([], pa.int64())}), fresh)
        return True

    team.store.amend("evaluate", NIGHT, without_one)
    team.deliver(NIGHT)
    assert team.values(NIGHT) == [2]
    vacuum = ["vacuum", "--config", str(team.config), "--older-than", "0"]
    cli.main(vacuum)
    assert "1 files could go" in capsys.readouterr().out
    cli.main([*vacuum, "--remove"])
    assert "1 files removed" in capsys.readouterr().out
    cli.main(vacuum)
    assert "0 files could go" in capsys.readouterr().out
    assert team.values(NIGHT) == [2]


def test_files_that_were_replaced_lately_stay_for_readers_of_older_versions(
    team: Team, capsys: pytest.CaptureFixture[str]
) -> None:
    team.publish(NIGHT, 1)
    team.deliver(NIGHT)
    team.publish(NIGHT, 2)
    team.deliver(NIGHT)
    cli.main(["vacuum", "--config", str(team.config), "--remove"])
    assert "0 files removed" in capsys.readouterr().out


def test_nights_that_are_too_old_leave_with_the_commit_of_the_newest(team: Team) -> None:
    for place in range(4):
        team.publish(NIGHT + timedelta(days=place), place)
    for place in range(3):
        team.deliver(NIGHT + timedelta(days=place))
    version = DeltaTable(f"{team.address}/metrics").version()
    team.deliver(NIGHT + timedelta(days=3), "deliver.keep_days=1")
    assert sorted(team.lake().files) == [NIGHT + timedelta(days=2), NIGHT + timedelta(days=3)]
    assert DeltaTable(f"{team.address}/metrics").version() == version + 1
    with pytest.raises(ConfigError, match="keeps no night before 2026-01-04"):
        team.deliver(NIGHT, "deliver.keep_days=1")


def test_of_two_deliveries_of_a_night_one_wins_and_the_other_changes_nothing(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Team(tmp_path / "other", team.address)
    team.publish(NIGHT, 1, 2)
    other.publish(NIGHT, 3, 4)
    at_point(monkeypatch, "copied", lambda: other.deliver(NIGHT))
    with pytest.raises(PublishConflictError, match="2026-01-02 was changed"):
        team.deliver(NIGHT)
    assert team.values(NIGHT) == [3, 4]
    assert team.lake().vacuum(0, remove=False) == []  # nor has it left anything behind


def test_the_loser_that_finds_its_own_work_done_is_content(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.publish(NIGHT, 1, 2)
    at_point(monkeypatch, "copied", lambda: team.deliver(NIGHT))
    assert "nothing to do" in team.deliver(NIGHT)
    assert team.values(NIGHT) == [1, 2]
    assert team.lake().vacuum(0, remove=False) == []


def test_deliveries_of_other_nights_do_not_stop_one(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.publish(NIGHT, 1)
    team.publish(NEXT, 2)
    at_point(monkeypatch, "copied", lambda: team.deliver(NEXT))
    team.deliver(NIGHT)
    assert (team.values(NIGHT), team.values(NEXT)) == ([1], [2])


RACE = """
import sys
from datetime import date, timedelta
from pathlib import Path
from test_delivery import NIGHT, PublishConflictError, Team
team, codes = Team(Path(sys.argv[1]), sys.argv[2]), []
print("ready", flush=True)
sys.stdin.readline()
for place in range(int(sys.argv[3])):
    try:
        team.deliver(NIGHT + timedelta(days=place))
        codes.append(0)
    except PublishConflictError:
        codes.append(5)
print(codes)
"""


def test_readers_meet_one_whole_run_of_a_night_while_two_processes_race_for_it(team: Team, tmp_path: Path) -> None:
    nights = [NIGHT + timedelta(days=place) for place in range(3)]
    other = Team(tmp_path / "other", team.address)
    for night in nights:
        team.publish(night, 1, 2, 3)
        other.publish(night, 11, 12, 13)
    path = os.pathsep.join(str(Path(__file__).parents[place]) for place in (0, 1))
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(each.config.parent), team.address, str(len(nights))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        for each in (team, other)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    seen = set()
    while any(racer.poll() is None for racer in racers):
        seen |= {tuple(team.values(night)) for night in team.lake().files}
    codes = [json.loads(racer.communicate()[0]) for racer in racers]
    print(codes, seen)
    assert all(0 in pair for pair in zip(*codes, strict=True))
    assert seen <= {(1, 2, 3), (11, 12, 13)}
    assert {tuple(team.values(night)) for night in nights} <= {(1, 2, 3), (11, 12, 13)}


def points(team: Team, folder: Path) -> list[str]:
    listed = folder / "points"
    job(team, {crash.POINTS: str(listed)})
    return listed.read_text().splitlines()


def job(team: Team, environment: dict[str, str]) -> int:
    """Run the job in a process of its own; returns its exit code."""
    script = Path(__file__).parents[2] / "jobs" / "deliver.py"
    command = [sys.executable, str(script), "--config", str(team.config), "--as-of", str(NIGHT)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True).returncode


def test_a_delivery_that_is_killed_leaves_the_old_night_or_the_new_one_and_is_made_good_by_the_next(
    tmp_path: Path, on_s3: str
) -> None:
    first = Team(tmp_path / "listing", f"{on_s3}/listing")
    first.publish(NIGHT, 1, 2)
    names = points(first, tmp_path)
    assert names == [
        "deliver metrics: begins",
        *["deliver: a file of metrics copied"] * 2,
        "deliver: metrics committed",
        "deliver metrics: is done",
    ]
    for number, name in enumerate(names, 1):
        team = Team(tmp_path / str(number), f"{on_s3}/{number}")
        team.publish(NIGHT, 1, 2)
        team.deliver(NIGHT)
        team.publish(NIGHT, 3, 4)
        assert job(team, {crash.AT: str(number)}) == -signal.SIGKILL
        committed = number >= names.index("deliver: metrics committed") + 1
        assert team.values(NIGHT) == ([3, 4] if committed else [1, 2]), name
        assert ("nothing to do" in team.deliver(NIGHT)) == committed
        assert team.values(NIGHT) == [3, 4]


def test_s3_needs_neither_rename_nor_copy_and_a_commit_is_a_conditional_put(
    tmp_path: Path, on_s3: str, server: Server
) -> None:
    team = Team(tmp_path / "team", on_s3)
    team.publish(NIGHT, 1, 2)
    before = len(server.requests())
    team.deliver(NIGHT)
    asked = server.requests()[before:]
    assert all(request.copy_source is None for request in asked)
    commits = [request for request in asked if request.method == "PUT" and "/_delta_log/" in request.path]
    assert len(commits) == 2  # the empty table, and the night
    assert all(request.if_none_match == "*" for request in commits)
    listed = [request.query for request in asked if "list-type" in request.query]
    assert all("_delta_log" in query for query in listed)  # what data is there, the log says alone


def test_a_store_that_is_busy_is_asked_again(tmp_path: Path, on_s3: str, server: Server) -> None:
    team = Team(tmp_path / "team", on_s3)
    team.publish(NIGHT, 1, 2)
    server.fail(Fault("PUT", "as_of=2026-01-02", times=2), Fault("POST", "as_of=2026-01-02", times=1))
    team.deliver(NIGHT)
    assert team.values(NIGHT) == [1, 2]


def test_a_commit_whose_answer_was_lost_is_found_to_be_made(tmp_path: Path, on_s3: str, server: Server) -> None:
    team = Team(tmp_path / "team", on_s3)
    team.publish(NIGHT, 1, 2)
    team.publish(NEXT, 3)
    team.deliver(NIGHT)
    server.fail(Fault("PUT", "_delta_log/", status="500 Internal Error", after=True))
    assert "delivered metrics 2026-01-03" in team.deliver(NEXT)
    assert team.values(NEXT) == [3]
    assert team.lake().vacuum(0, remove=False) == []


def test_a_store_that_refuses_is_named_without_the_keys(
    tmp_path: Path, on_s3: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    team = Team(tmp_path / "team", on_s3)
    team.publish(NIGHT, 1)
    server.fail(Fault("PUT", "as_of=", status="403 Forbidden", times=100))
    with pytest.raises(StorageError, match="necessary privileges") as caught:
        team.deliver(NIGHT)
    server.fail(Fault("PUT", "_delta_log", status="403 Forbidden", times=100))
    with pytest.raises(StorageError, match="403 Forbidden"):
        team.deliver(NIGHT)
    server.fail()
    assert "\n" not in str(caught.value)
    assert "very-secret" not in str(caught.value) + caplog.text
    with pytest.raises(StorageError, match="NoSuchBucket"):
        Team(tmp_path / "none", "s3://no-such-bucket").lake()


def test_the_files_of_a_night_are_read_from_s3_without_delta(tmp_path: Path, on_s3: str, server: Server) -> None:
    team = Team(tmp_path / "team", on_s3)
    team.publish(NIGHT, 1, 2)
    team.deliver(NIGHT)
    s3 = fs.S3FileSystem(endpoint_override=server.url, access_key="key", secret_key="very-secret", region="us-east-1")
    paths = [f"{on_s3.removeprefix('s3://')}/metrics/{path}" for path in team.lake().files[NIGHT]]
    assert sorted(pq.read_table(paths, filesystem=s3, partitioning=None)["value"].to_pylist()) == [1, 2]


def test_duckdb_reads_the_files_that_the_log_lists(tmp_path: Path) -> None:
    team = Team(tmp_path / "team", str(tmp_path / "lake"))
    team.publish(NIGHT, 1, 2)
    team.deliver(NIGHT)
    files = DeltaTable(f"{team.address}/metrics").file_uris()
    rows = duckdb.connect().read_parquet(files, hive_partitioning=True)
    assert rows.aggregate("as_of, sum(value)").fetchall() == [(NIGHT, 3)]


def test_a_file_that_is_not_as_it_was_published_is_not_delivered(team: Team) -> None:
    team.publish(NIGHT, 1, 2)
    file = team.store.files("metrics", NIGHT)[0].path
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    with pytest.raises(AuditError, match="halflife verify"):
        team.deliver(NIGHT)
    assert team.lake().files == {}


def test_a_night_that_is_not_published_is_named(team: Team) -> None:
    with pytest.raises(InputMissingError, match=r"metrics: no night 2026-01-02 .* run jobs/evaluate.py"):
        team.deliver(NIGHT)


def test_a_table_gets_the_columns_of_a_later_night_and_no_other_types(team: Team) -> None:
    team.publish(NIGHT, 1)
    team.deliver(NIGHT)

    def stage(night: date, table: pa.Table) -> None:
        run = staged(team.store, "later", 5, night)
        pq.write_table(table, run.path("metrics") / "part-0.parquet")
        team.store.publish(run, {}, {})

    stage(NEXT, pa.table({"value": [5], "more": ["m"]}))
    team.deliver(NEXT)
    assert [field.name for field in DeltaTable(f"{team.address}/metrics").schema().fields] == ["value", "as_of", "more"]
    assert (team.values(NIGHT), team.values(NEXT)) == ([1], [5])
    other = NEXT + timedelta(days=1)
    stage(other, pa.table({"value": ["five"]}))
    with pytest.raises(AuditError, match=r"value is .*long.* there and .*string.* tonight"):
        team.deliver(other)
    stage(other + timedelta(days=1), pa.table({"value": pa.array([5], pa.uint8())}))
    with pytest.raises(AuditError, match="Delta has no uint8"):
        team.deliver(other + timedelta(days=1))


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


def test_every_table_of_rows_can_be_delivered() -> None:
    allowed = config.DeliverConfig.model_fields["tables"].annotation
    assert set(config.get_args(config.get_args(allowed)[0])) == set(JOB_OF) - set(FILES)


@pytest.mark.parametrize("address", ["s3://key:secret@bucket/lake", "s3://bucket/lake?secret=1"])
def test_an_address_holds_no_secrets(address: str) -> None:
    with pytest.raises(ValueError, match="come from the environment"):
        config.DeliverConfig(to=address)


def test_without_its_package_the_job_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(ConfigError, match=r"deltalake.*requirements-lake\.txt"):
        importlib.reload(delivery)


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


def test_a_lake_has_to_be_named(tmp_path: Path) -> None:
    team = Team(tmp_path / "team", str(tmp_path / "lake"))
    with pytest.raises(ConfigError, match=r"deliver\.to"):
        team.deliver(NIGHT, "deliver.to=null")
