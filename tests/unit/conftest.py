"""Where the lakes of the tests of deliveries are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake_team import Team
from s3_server import Server, running


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


@pytest.fixture
def team(tmp_path: Path, address: str) -> Team:
    return Team(tmp_path / "team", address)
