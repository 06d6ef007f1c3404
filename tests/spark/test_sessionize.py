"""The sessionize job on logs that are late, repeated and from many sources, in one Spark session."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrameWriter, SparkSession

import late_log
import scored_log
from halflife import config as configuration
from halflife import forgetting
from halflife.command import Job
from halflife.errors import ConfigError
from halflife.pipelines import sessionize
from halflife.scoring import update
from halflife.warehouse import Warehouse, digests

LAST = late_log.FIRST + timedelta(days=late_log.DAYS)
STATE = ("events", "sessions", "sequences", "users", "items")


class Nights:
    """A warehouse over a raw log, and the nights that were run in it."""

    def __init__(self, raw: Path, folder: Path, *overrides: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(late_log.CONFIG.format(raw=raw))
        self.raw = raw
        self.config = configuration.load(folder / "config.yaml", [f"warehouse={folder}/warehouse", *overrides])
        self.store = Warehouse(self.config.warehouse)

    def copy(self, folder: Path, *overrides: str) -> Nights:
        """The same nights in another warehouse. Files are shared: nothing changes a published one in place."""
        shutil.copytree(self.store.root, folder / "warehouse", symlinks=True, copy_function=os.link)
        return Nights(self.raw, folder, *overrides)

    def run(self, *nights: date) -> Nights:
        for night in nights:
            sessionize.run(Job("sessionize", night, self.config, sys.stdout, until=nights[-1]))
        return self

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Rows of a query in which {table/...} stands for its files."""
        filled = query.replace("{", f"read_parquet('{self.store.root}/").replace(
            "}", "/*.parquet', hive_partitioning=false)"
        )
        return duckdb.sql(filled).fetchall()

    def links(self) -> list[Path]:
        """What every published night points to."""
        return sorted(path.readlink() for path in self.store.root.glob("_nights/*/*"))

    def state(self, table: str, night: date = LAST) -> list[tuple[object, ...]]:
        return self.rows(f"SELECT * FROM {{{table}/as_of={night}}} ORDER BY ALL")


def days(first: int, last: int) -> list[date]:
    return [late_log.FIRST + timedelta(days=n) for n in range(first, last + 1)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    late_log.write(folder, seed=5)
    return folder


@pytest.fixture(scope="module")
def one_by_one(spark: SparkSession, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    return Nights(raw, tmp_path_factory.mktemp("one_by_one")).run(*days(1, late_log.DAYS))


@pytest.fixture(scope="module")
def one_go(spark: SparkSession, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    return Nights(raw, tmp_path_factory.mktemp("one_go")).run(LAST)


@pytest.mark.parametrize("table", STATE)
def test_nights_one_by_one_give_the_tables_of_one_rebuild(one_by_one: Nights, one_go: Nights, table: str) -> None:
    rows = one_by_one.state(table)
    assert len(rows) >= late_log.ITEMS
    assert rows == one_go.state(table)


def test_every_row_read_is_accounted_for(one_by_one: Nights) -> None:
    query = "SELECT sum(rows_read), sum(accepted), sum(quarantined), sum(duplicates) FROM {intake/*}"
    ((read, accepted, quarantined, duplicates),) = one_by_one.rows(query)
    assert min(accepted, quarantined, duplicates) > 0
    assert read == accepted + quarantined + duplicates
    assert one_by_one.rows(f"SELECT count(*) FROM {{events/as_of={LAST}}}") == [(accepted,)]
    reasons = {row[0] for row in one_by_one.rows("SELECT DISTINCT reason FROM {quarantine/*}")}
    assert reasons == {"too_late", "unparsable_time", "time_after_as_of", "malformed_line"}


@pytest.mark.parametrize("night", days(2, late_log.DAYS), ids=str)
def test_active_sequences_are_those_of_the_users_whose_events_changed(one_by_one: Nights, night: date) -> None:
    columns = ", ".join(update.COMPARED)
    events, before = (f"(SELECT {columns} FROM {{events/as_of={day}}})" for day in (night, night - timedelta(days=1)))
    changed = (
        f"SELECT user_index FROM ({events} EXCEPT {before}) UNION SELECT user_index FROM ({before} EXCEPT {events})"
    )
    wanted = one_by_one.rows(f"FROM {{sequences/as_of={night}}} WHERE user_index IN ({changed}) ORDER BY ALL")
    assert one_by_one.state("active_sequences", night) == wanted


def test_where_everything_is_walked_the_sequences_are_not_written_twice(one_by_one: Nights, one_go: Nights) -> None:
    assert one_by_one.state("active_sequences", days(1, 1)[0]) == one_go.state("active_sequences") == []


# --- Reruns and plans


@dataclass
class Executed:
    """What Spark was told to do while nights ran."""

    walks: list[str] = field(default_factory=list)  # plans of what the walk reads
    plans: list[str] = field(default_factory=list)  # of what was written or collected
    collected: list[list[str]] = field(default_factory=list)  # columns


@pytest.fixture(scope="module")
def executed(spark: SparkSession) -> Iterator[Executed]:
    """Filled by the nights of `again` and `resumed`."""
    found, frames = Executed(), type(spark.range(1))

    def plan(frame: Any) -> str:
        shown: str = frame._jdf.queryExecution().executedPlan().toString()
        return shown

    def before(owner: type, name: str, note: Callable[[Any], None]) -> None:
        original = getattr(owner, name)

        def noted(self: Any, *arguments: Any, **named: Any) -> Any:
            note(self)
            return original(self, *arguments, **named)

        patch.setattr(owner, name, noted)

    def collected(frame: Any) -> None:
        found.plans.append(plan(frame))
        found.collected.append(frame.columns)

    with pytest.MonkeyPatch.context() as patch:
        before(frames, "mapInArrow", lambda frame: found.walks.append(plan(frame)))
        for name in ("collect", "toPandas", "toArrow", "toLocalIterator"):
            before(frames, name, collected)
        before(DataFrameWriter, "parquet", lambda writer: found.plans.append(plan(writer._df)))
        yield found


@pytest.fixture(scope="module")
def again(executed: Executed, one_go: Nights, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    """The night of `one_go` in another warehouse, its sources in another order, its files touched."""
    made = Nights(one_go.raw, tmp_path_factory.mktemp("again"))
    reversed_sources = dict(reversed(made.config.sources.items()))
    made.config = made.config.model_copy(update={"sources": reversed_sources})
    for number, file in enumerate(sorted(one_go.raw.rglob("*.*"))):
        os.utime(file, (number, number))
    return made.run(LAST)


@pytest.fixture(scope="module")
def resumed(executed: Executed, one_by_one: Nights, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    """The last two nights of `one_by_one` run again, with a config that differs where it makes no difference."""
    made = one_by_one.copy(tmp_path_factory.mktemp("resumed"), "sessionize.max_id_length=1023")
    before = made.links()
    with pytest.raises(ConfigError, match=f"run them again with it: --from {days(7, 7)[0]} --as-of {LAST}"):
        made.run(*days(7, 7))
    assert made.links() == before
    return made.run(*days(7, 8))


def test_a_rerun_with_nothing_changed_writes_nothing(one_go: Nights) -> None:
    before = one_go.links()
    assert before == one_go.run(LAST).links()


def test_no_byte_depends_on_the_warehouse_or_the_order_of_sources_and_files(one_go: Nights, again: Nights) -> None:
    first, second = (digests(nights.store.manifest("sessionize", LAST)) for nights in (one_go, again))
    assert first == second


def test_nights_that_are_run_again_give_the_same_tables(one_go: Nights, one_by_one: Nights, resumed: Nights) -> None:
    assert len(set(resumed.links()) - set(one_by_one.links())) == 2
    for table in STATE:
        assert resumed.state(table) == one_go.state(table)


def test_the_walk_reads_whole_buckets_each_sorted_by_itself(executed: Executed, again: Nights, resumed: Nights) -> None:
    walks = [plan for plan in executed.walks if "bucket" in plan]
    assert len(walks) == 3
    for plan in walks:
        assert re.search(r"^\+- Sort \[.*\], false.*\n +\+- Exchange hashpartitioning\(bucket#\d+, \d+\)", plan, re.M)
        assert not re.search(r"\bWindow\b|SinglePartition|rangepartitioning|collect_list|CartesianProduct", plan)


def test_no_event_rows_are_brought_to_one_task_or_to_the_driver(
    executed: Executed, again: Nights, resumed: Nights
) -> None:
    assert len(executed.plans) > 10
    for plan in executed.plans:
        for below in re.findall(r"Exchange SinglePartition.*\n(.*)", plan):
            assert "partial_" in below or not re.search(r"event_time|event_key", below), plan
    for columns in executed.collected:
        assert not {"event_time", "event_id", "event_key", "user_id", "user_index"} & set(columns)


# --- Forgetting

FORGOTTEN = "user-3"
CAME_BACK, BACK_SINCE = "user-5", late_log.FIRST + timedelta(days=4)
AFTER = [LAST + timedelta(days=1), LAST + timedelta(days=2)]


@dataclass
class Forgotten:
    """Nights that forgot a user and some events, and nights that never had them."""

    nights: Nights
    rebuilt: Nights
    index: int  # the user's
    events: list[tuple[str, str]]


@pytest.fixture(scope="module")
def forgotten(resumed: Nights, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Forgotten:
    nights = resumed.copy(tmp_path_factory.mktemp("forgotten"))  # with runs that others have replaced
    rebuilt = Nights(raw, tmp_path_factory.mktemp("rebuilt"))
    ((index,),) = nights.rows(f"SELECT user_index FROM {{users/as_of={LAST}}} WHERE user_id = '{FORGOTTEN}'")
    # One of each source, and a copy alone of an event that is really there twice.
    single = nights.rows(
        f"SELECT min((user_id, event_id)) FROM {{events/as_of={LAST}}} WHERE user_id <> '{FORGOTTEN}' GROUP BY source "
        f"UNION ALL SELECT max((user_id, event_id)) FROM {{events/as_of={LAST}}} WHERE event_id LIKE '~%-1'"
    )
    events = sorted({pair for (pair,) in single})
    for warehouse in (nights, rebuilt):
        forgetting.ask(warehouse.store, LAST, [FORGOTTEN], events)
        forgetting.ask(warehouse.store, BACK_SINCE, [CAME_BACK], [])
    nights.run(AFTER[0]).run(AFTER[1])
    rebuilt.run(AFTER[1])
    return Forgotten(nights, rebuilt, index, events)


def test_no_file_holds_the_id_of_a_forgotten_user(forgotten: Forgotten) -> None:
    files = [path for path in forgotten.nights.store.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 100
    seen = set[int]()
    for file in files:
        if file.stat().st_ino in seen:
            continue
        seen.add(file.stat().st_ino)
        content = file.read_bytes()
        if file.suffix == ".parquet":
            content = str(pq.read_table(file, partitioning=None).to_pylist()).encode()
        assert FORGOTTEN.encode() not in content, file


def test_no_row_has_the_index_of_a_forgotten_user(forgotten: Forgotten) -> None:
    for table in ("events", "sessions", "sequences"):
        query = f"SELECT count(*), count_if(user_index = {forgotten.index}) FROM {{{table}/*}}"
        ((rows, of_user),) = forgotten.nights.rows(query)
        assert rows > 0
        assert of_user == 0
    user = f"SELECT user_id FROM {{users/as_of={AFTER[1]}}} WHERE user_index = {forgotten.index}"
    assert forgotten.nights.rows(user) == [(None,)]


def test_a_user_keeps_the_events_since_the_day_of_the_request_and_one_index(
    forgotten: Forgotten, one_go: Nights
) -> None:
    of_user = f"WHERE user_id = '{CAME_BACK}'"
    query = "SELECT DISTINCT user_index FROM {table/as_of=NIGHT} " + of_user
    before = one_go.rows(query.replace("table", "users").replace("NIGHT", str(LAST)))
    assert len(before) == 1
    for table in ("users", "events"):
        assert forgotten.nights.rows(query.replace("table", table).replace("NIGHT", str(AFTER[1]))) == before
    ((first,),) = forgotten.nights.rows(f"SELECT min(event_time)::DATE FROM {{events/as_of={AFTER[1]}}} {of_user}")
    assert first >= BACK_SINCE


@pytest.mark.parametrize("table", ["events", "sessions", "sequences"])
def test_everyone_else_has_what_a_rebuild_without_the_forgotten_gives(forgotten: Forgotten, table: str) -> None:
    query = f"SELECT * EXCLUDE (user_index) FROM {{{table}/as_of={AFTER[1]}}} ORDER BY ALL"
    assert forgotten.nights.rows(query) == forgotten.rebuilt.rows(query)


def test_forgotten_events_are_gone_and_their_copies_too(forgotten: Forgotten) -> None:
    query = f"SELECT user_id, regexp_replace(event_id, '^(~.*)-[0-9]+$', '\\1') FROM {{events/as_of={AFTER[1]}}}"
    left = set(forgotten.nights.rows(query))
    assert {user for user, _ in forgotten.events} <= {user for user, _ in left}
    assert not left & {(user, re.sub(r"^(~.*)-\d+$", r"\1", event)) for user, event in forgotten.events}


@pytest.mark.parametrize("night", AFTER, ids=str)
def test_what_the_raw_log_still_has_of_the_forgotten_is_rejected_without_its_text(
    forgotten: Forgotten, night: date
) -> None:
    query = f"SELECT count(*), count(raw) FROM {{quarantine/as_of={night}}} WHERE reason = 'forgotten'"
    ((rows, texts),) = forgotten.nights.rows(query)
    assert rows > 0
    assert texts == 0


def test_once_forgotten_a_night_is_not_run_again(forgotten: Forgotten) -> None:
    before = forgotten.nights.links()
    assert before == forgotten.nights.run(AFTER[1]).links()


def test_a_night_adds_a_file_of_users_only_where_there_are_new_ones(spark: SparkSession, tmp_path: Path) -> None:
    made = scored_log.Nights(tmp_path / "shop", members=("anna", "zoe"))
    for day, user in enumerate(("anna", "anna", "ben")):
        made.log(day, (user, "apple", 8))
        made.run(day + 1, jobs=("sessionize",))
    nights = [scored_log.FIRST + timedelta(days=day) for day in (1, 2, 3)]
    assert [len(made.store.files("users", night)) for night in nights] == [1, 1, 2]
