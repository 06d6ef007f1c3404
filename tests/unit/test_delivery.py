"""Nights are delivered to a lake: on a disk, and on a local S3 server that enforces conditional PUTs."""

from __future__ import annotations

import importlib
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from halflife import cli, config, delivery
from halflife.delivery.table import WAREHOUSE
from halflife.errors import AuditError, ConfigError, InputMissingError
from halflife.pipelines import deliver as pipeline
from halflife.warehouse import FILES, JOB_OF, Warehouse
from halflife.warehouse.amendment import amend
from lake_team import NEXT, NIGHT, Team


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

    amend(team.store, "evaluate", NIGHT, without_one)
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


def test_every_table_of_rows_can_be_delivered() -> None:
    allowed = config.DeliverConfig.model_fields["tables"].annotation
    assert set(get_args(get_args(allowed)[0])) == set(JOB_OF) - set(FILES)


def test_without_its_package_the_job_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(ConfigError, match=r"deltalake.*requirements-lake\.txt"):
        importlib.reload(delivery)


def test_a_lake_has_to_be_named(tmp_path: Path) -> None:
    team = Team(tmp_path / "team", str(tmp_path / "lake"))
    with pytest.raises(ConfigError, match=r"deliver\.to"):
        team.deliver(NIGHT, "deliver.to=null")


def test_a_table_is_one_warehouse_s_and_refuses_another(team: Team, tmp_path: Path) -> None:
    other = Team(tmp_path / "other", team.address, warehouse="two")
    for each, value in ((team, 1), (other, 2)):
        each.publish(NIGHT, value)
    team.deliver(NIGHT)
    with pytest.raises(ConfigError, match=r"is that of another warehouse \(one\); name another folder"):
        other.deliver(NIGHT)
    assert team.values(NIGHT) == [1]
    (other.store.root / "_id").write_text("one\n")  # as the error says
    other.deliver(NIGHT)
    assert team.values(NIGHT) == [2]


def test_of_two_warehouses_that_make_a_table_at_the_same_moment_one_has_it(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Team(tmp_path / "other", team.address, warehouse="two")
    for each, value in ((team, 1), (other, 2)):
        each.publish(NIGHT, value)
    late = pipeline.deliver

    def deliver(*arguments: Any) -> Any:
        monkeypatch.setattr(pipeline, "deliver", late)
        other.deliver(NIGHT)
        return late(*arguments)

    monkeypatch.setattr(pipeline, "deliver", deliver)
    with pytest.raises(ConfigError, match="is that of another warehouse"):
        team.deliver(NIGHT)
    assert team.values(NIGHT) == [2]


def test_a_table_from_before_there_were_ids_is_that_of_the_first_that_delivers(team: Team) -> None:
    team.publish(NIGHT, 1)
    team.deliver(NIGHT)
    DeltaTable(f"{team.address}/metrics").alter.set_table_properties({WAREHOUSE: ""}, raise_if_not_exists=False)
    team.publish(NIGHT, 2)
    team.deliver(NIGHT)
    assert team.lake().warehouse == "one"


def test_a_warehouse_keeps_its_id_wherever_it_is_moved(tmp_path: Path) -> None:
    first, other = Warehouse(tmp_path / "first"), Warehouse(tmp_path / "other")
    known = first.id
    first.root.rename(tmp_path / "moved")
    assert Warehouse(tmp_path / "moved").id == known != other.id
