"""Nights of a log whose users are to be known by pseudonyms: no id is left anywhere, and all else is as it was."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path

import duckdb
import pytest
from pyspark.sql import SparkSession

from halflife import cli
from halflife import config as configuration
from halflife.command import Job
from halflife.errors import ConfigError
from halflife.pipelines import report, score, sessionize
from halflife.pseudonyms import Pseudonyms
from halflife.warehouse import Warehouse

CONFIG = """\
warehouse: {folder}/warehouse
sources:
  log: {{path: {folder}/log.csv, format: csv, event_type: view, columns: {{user: u, item: i, time: t}}}}
event_types: {{view: {{weight: 1.0}}}}
users: {{path: {folder}/members.csv, format: csv, id: member}}
alarms: {{quarantine_share: {{action: "off"}}}}
"""
KEY = "0123456789abcdef" * 4
NIGHT, NEXT = date(2026, 5, 2), date(2026, 5, 3)
HEX, TAKEN = sha256(b"edmund").hexdigest(), f"hmac-{sha256(b'fridolin').hexdigest()}"  # ids that look like pseudonyms
USERS = ("annabel", "benedict", "cordelia", HEX, TAKEN, "dorothea")  # the last has no event
LOG = f"""\
u,i,t
annabel,tea,2026-05-01T10:00:00Z
annabel,milk,2026-05-01T10:05:00Z
benedict,tea,2026-05-01T11:00:00Z
cordelia,milk,2026-05-01T12:00:00Z
cordelia,milk,2026-05-01T12:00:00Z
 ,milk,2026-05-01T12:00:00Z
{HEX},tea,2026-05-01T13:00:00Z
{TAKEN},tea,2026-05-01T14:00:00Z
benedict,tea,no time
benedict
"""


@dataclass
class Shop:
    """A folder with a log and its warehouse."""

    folder: Path
    key_file: Path | None

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "log.csv").write_text(LOG)
        (self.folder / "members.csv").write_text("".join(f"{line}\n" for line in ("member", *USERS)))
        self.with_key(self.key_file)

    def with_key(self, key_file: Path | None) -> None:
        """Go on with another key, or with none."""
        text = CONFIG.format(folder=self.folder)
        self.config.write_text(text + (f"pseudonyms: {{key_file: {key_file}}}\n" if key_file else ""))

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def run(self, night: date = NIGHT, *jobs: str) -> None:
        pipelines = {"sessionize": sessionize.run, "score": score.run, "report": report.run}
        for name in jobs or pipelines:
            pipelines[name](Job(name, night, configuration.load(self.config), sys.stdout, until=night))

    def rows(self, table: str, columns: str, night: date = NIGHT) -> list[tuple[object, ...]]:
        files = f"{self.folder}/warehouse/{table}/as_of={night}/*.parquet"
        return duckdb.sql(f"SELECT {columns} FROM read_parquet('{files}', hive_partitioning=false)").fetchall()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "key"
    path.write_text(KEY + "\n")
    return path


@pytest.fixture(scope="module")
def shops(spark: SparkSession, key: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Shop]:
    """The same log with pseudonyms and without, each night run."""
    folder = tmp_path_factory.mktemp("shops")
    hidden, open_ = Shop(folder / "hidden", key), Shop(folder / "open", None)
    hidden.run()
    open_.run()
    return hidden, open_


def test_all_but_the_ids_is_as_it_was(shops: tuple[Shop, Shop]) -> None:
    hidden, open_ = shops
    of = Pseudonyms(KEY.encode()).of
    for table, columns in (("scores", "user_id, item_id, score"), ("users", "user_id"), ("events", "user_id, item_id")):
        expected = [(of(str(user)), *rest) for user, *rest in open_.rows(table, columns)]
        assert len(expected) >= 4
        assert sorted(hidden.rows(table, columns)) == sorted(expected)
    reasons = sorted(hidden.rows("quarantine", "reason"))
    assert reasons == sorted(open_.rows("quarantine", "reason"))
    assert ("missing_user",) in reasons


def test_no_file_of_the_warehouse_holds_an_id_or_the_key(shops: tuple[Shop, Shop]) -> None:
    hidden, open_ = shops

    def found(shop: Shop) -> set[str]:
        """Ids that stand in a table's row, or in the bytes of any other file."""
        files = [path for path in (shop.folder / "warehouse").rglob("*") if path.is_file()]
        rows = [duckdb.sql(f"FROM '{path}'").fetchall() for path in files if path.suffix == ".parquet"]
        text = str(rows) + "".join(path.read_text(errors="replace") for path in files if path.suffix != ".parquet")
        return {word for word in (*USERS, KEY) if word in text}

    assert found(open_) == set(USERS)
    assert found(hidden) == set()


def test_the_manifest_names_the_key_by_its_id(shops: tuple[Shop, Shop]) -> None:
    manifest = Warehouse(shops[0].folder / "warehouse").manifest("sessionize", NIGHT)
    assert manifest is not None
    assert manifest["inputs"]["pseudonyms"] == Pseudonyms(KEY.encode()).key_id


def test_a_user_is_found_by_id_and_by_pseudonym(shops: tuple[Shop, Shop], capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for user in ("annabel", Pseudonyms(KEY.encode()).of("annabel")):
        assert cli.main(["explain", "--config", str(shops[0].config), user, "tea", "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    assert len(answers[0]["events"]) == 1


def test_another_key_is_refused_where_there_are_nights(
    shops: tuple[Shop, Shop], key: Path, tmp_path: Path, spark: SparkSession
) -> None:
    hidden, open_ = shops
    (tmp_path / "other").write_text("x" * 32)
    for shop, other, message in (
        (hidden, tmp_path / "other", "published nights have pseudonyms of the key"),
        (hidden, None, "and there is none now"),
        (open_, key, "published nights have users by their ids"),
    ):
        shop.with_key(other)
        with pytest.raises(ConfigError, match=message):
            shop.run(NEXT, "sessionize")
        shop.with_key(shop.key_file)


def test_users_are_forgotten_by_id_or_pseudonym_whatever_an_id_looks_like(
    shops: tuple[Shop, Shop], tmp_path: Path
) -> None:
    hidden, _ = shops
    of = Pseudonyms(KEY.encode()).of
    (tmp_path / "users").write_text(f"annabel\n{HEX}\n{TAKEN}\n{of('benedict')}\n")
    command = ["forget", "--config", str(hidden.config), "--users", str(tmp_path / "users"), "--before", str(NEXT)]
    assert cli.main(command) == 0
    hidden.run(NEXT, "sessionize")
    left = {(of("cordelia"),), (of("dorothea"),)}
    assert set(hidden.rows("users", "user_id", NEXT)) == {*left, (None,)}  # their indexes stay
    assert set(hidden.rows("scores", "user_id")) == left
