"""What a delivery asks of an S3 server, and what it does where that is busy, silent or refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from halflife import config
from halflife.errors import StorageError
from lake_team import NEXT, NIGHT, Team
from s3_server import Fault, Server


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


@pytest.mark.parametrize(
    "address",
    ["s3://key:secret@bucket/lake", "s3://bucket/lake?secret=1", "abfss://c:secret@account/x", "abfss://c@a/x?sig=1"],
)
def test_an_address_holds_no_secrets(address: str) -> None:
    with pytest.raises(ValueError, match="come from the environment"):
        config.DeliverConfig(to=address)


def test_an_address_names_a_container_of_azure() -> None:
    assert config.DeliverConfig(to="abfss://lake@shop.dfs.core.windows.net/x").to


def test_a_delivery_looks_at_the_lake_once_however_many_nights_there_are(
    tmp_path: Path, on_s3: str, server: Server
) -> None:
    team = Team(tmp_path / "team", on_s3)
    nights = [NIGHT + timedelta(days=place) for place in range(5)]
    for night in nights:
        team.publish(night, 1)
        team.deliver(night)

    def requests(act: Callable[[], object]) -> int:
        before = len(server.requests())
        act()
        return len(server.requests()) - before

    look = requests(team.lake)
    assert requests(lambda: team.deliver(nights[-1])) == look
    team.publish(nights[2], 2)
    changed = requests(lambda: team.deliver(nights[-1]))
    assert changed <= 2 * look + 16  # one look more, a copy and a commit
