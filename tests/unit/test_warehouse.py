"""Publishing: all tables at once, a rerun that does nothing, a loser that changes nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halflife import crash
from halflife.errors import AuditError, InputMissingError, PublishConflictError
from halflife.upkeep import verify
from halflife.warehouse import Warehouse, digests, lease
from halflife.warehouse.amendment import Amended, amend
from small_night import NIGHT, begun, staged


@pytest.fixture
def store(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse")


def visible(store: Warehouse) -> list[int]:
    """What a reader who knows nothing of halflife sees."""
    table = pq.read_table(store.root / "metrics" / f"as_of={NIGHT}", partitioning=None)
    values: list[int] = table.column("value").to_pylist()
    return values


def test_a_table_appears_when_it_is_published_and_not_before(store: Warehouse) -> None:
    run = staged(store, "a", 1)
    assert not (store.root / "metrics").exists()
    manifest = store.publish(run, {}, {"users": 3})
    assert visible(store) == [1]
    assert manifest["tables"]["metrics"]["rows"] == 1
    assert store.manifest("evaluate", NIGHT) == manifest
    assert store.nights("evaluate") == [NIGHT]
    assert not run.directory.exists()


def test_the_same_inputs_are_nothing_to_do_and_others_replace_the_night(store: Warehouse) -> None:
    store.publish(staged(store, "a", 1), {}, {})
    assert store.begin("evaluate", NIGHT, {"inputs": "a"}) is None
    old = store.path("metrics", NIGHT)
    store.publish(staged(store, "b", 2), {}, {})
    assert visible(store) == [2]
    assert pq.read_table(old, partitioning=None).column("value").to_pylist() == [1]  # an open reader finishes


def test_the_later_of_two_publishers_loses_and_changes_nothing(store: Warehouse) -> None:
    first, second = staged(store, "a", 1), staged(store, "b", 2)
    store.publish(first, {}, {})
    with pytest.raises(PublishConflictError, match="another run published"):
        store.publish(second, {}, {})
    assert visible(store) == [1]


def test_a_run_that_fails_leaves_the_last_table_and_no_staging(store: Warehouse) -> None:
    store.publish(staged(store, "a", 1), {}, {})
    run = staged(store, "b", 2)
    with pytest.raises(ZeroDivisionError), store.staged(run):
        raise ZeroDivisionError
    assert visible(store) == [1]
    assert list((store.root / "_staging").iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"PAR1 but not really"])
def test_a_table_that_is_missing_or_broken_is_not_published(store: Warehouse, content: bytes | None) -> None:
    run = begun(store, "a")
    if content is not None:
        run.path("metrics").mkdir()
        (run.path("metrics") / "part-0.parquet").write_bytes(content)
    with pytest.raises(AuditError, match=r"metrics.*nothing was published"):
        store.publish(run, {}, {})
    assert store.nights("evaluate") == []


def test_what_is_missing_is_named_with_the_job_that_makes_it(store: Warehouse) -> None:
    store.publish(staged(store, "a", 1, date(2026, 1, 1)), {}, {})
    with pytest.raises(
        InputMissingError, match=r"metrics: no night 2026-01-02 .*last nights: 2026-01-01.*evaluate\.py"
    ):
        store.path("metrics", NIGHT)


def test_a_warehouse_can_be_moved(store: Warehouse, tmp_path: Path) -> None:
    store.publish(staged(store, "a", 1), {}, {})
    shutil.move(store.root, tmp_path / "elsewhere")
    assert visible(Warehouse(tmp_path / "elsewhere")) == [1]


def test_nights_are_found_by_their_order(store: Warehouse) -> None:
    for day in (3, 1, 2):
        store.publish(staged(store, f"{day}", day, date(2026, 1, day)), {}, {})
    assert store.last_night("evaluate", date(2026, 1, 3)) == date(2026, 1, 2)
    assert store.last_night("evaluate", date(2026, 1, 3), inclusive=True) == date(2026, 1, 3)
    assert store.last_night("evaluate", date(2026, 1, 1)) is None


def test_the_digest_of_a_run_is_that_of_its_files(store: Warehouse) -> None:
    first = store.publish(staged(store, "a", 1), {}, {})
    second = store.publish(staged(store, "b", 1), {}, {})
    third = store.publish(staged(store, "c", 2), {}, {})
    assert digests(first) == digests(second) != digests(third)


def test_a_file_is_known_by_its_rows_and_not_by_how_its_writer_tells_of_them(store: Warehouse) -> None:
    """As Spark's own does, which orders a footer's words otherwise in each JVM."""
    found = []
    for inputs, told, value, name in (
        ("a", "one way", 1, "n"),
        ("b", "another", 1, "n"),
        ("c", "", 2, "n"),
        ("d", "", 1, "m"),
    ):
        run = begun(store, inputs)
        run.path("metrics").mkdir()
        table = pa.table({name: [value]}).replace_schema_metadata({"told": told})
        pq.write_table(table, run.path("metrics") / "part-0.parquet")
        manifest = store.publish(run, {}, {})
        found.append((digests(manifest), manifest["tables"]["metrics"]["files"][0]["sha256"]))
    (one, one_bytes), (other, other_bytes), (value, _), (named, _) = found
    assert one == other
    assert one_bytes != other_bytes
    assert one not in (value, named)


def test_a_kept_file_is_not_written_again_and_both_nights_have_it(store: Warehouse) -> None:
    store.publish(staged(store, "a", 1), {}, {})
    (old,) = store.files("metrics", NIGHT)
    run = begun(store, "b", date(2026, 1, 3))
    run.keep("metrics", [old])
    pq.write_table(pa.table({"value": [2]}), run.path("metrics") / "part-1.parquet")
    manifest = store.publish(run, {}, {})
    kept, new = store.files("metrics", date(2026, 1, 3))
    assert kept.path.samefile(old.path)
    assert manifest["tables"]["metrics"]["files"][0] == old.described
    assert store.changed_files("metrics", since=NIGHT, until=date(2026, 1, 3)) == ([new], [])
    assert store.changed_files("metrics", since=date(2026, 1, 3), until=NIGHT)[1] == [new]


@pytest.mark.parametrize("moment", [None, "publish: described"])
def test_a_file_that_a_straggling_task_opens_late_is_not_published(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch, moment: str | None
) -> None:
    """Of a table whose tasks have named their files, with one that is kept from the night before."""
    store.publish(staged(store, "a", 1), {}, {})
    (kept,) = store.files("metrics", NIGHT)
    run = begun(store, "b")
    run.path("metrics").mkdir()
    pq.write_table(pa.table({"value": [2]}), run.path("metrics") / "part-1.parquet")
    run.only("metrics", ["part-1.parquet"])
    run.keep("metrics", [kept])

    def straggle(now: str | None) -> None:
        if now == moment:
            pq.write_table(pa.table({"value": [3]}), run.path("metrics") / "part-2.parquet")

    straggle(None)
    monkeypatch.setattr(crash, "point", straggle)
    manifest = store.publish(run, {}, {})
    assert [file["path"] for file in manifest["tables"]["metrics"]["files"]] == ["part-0.parquet", "part-1.parquet"]
    assert visible(store) == [1, 2]


def test_where_there_are_no_hard_links_a_kept_file_is_copied(store: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    store.publish(staged(store, "a", 1), {}, {})
    run = begun(store, "b", date(2026, 1, 3))
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("none here")))
    run.keep("metrics", store.files("metrics", NIGHT))
    store.publish(run, {}, {})
    (kept,) = store.files("metrics", date(2026, 1, 3))
    assert pq.read_table(kept.path)["value"].to_pylist() == [1]


def test_an_amended_night_is_still_known_by_the_digest_that_it_was_published_with(store: Warehouse) -> None:
    before = store.publish(staged(store, "a", 1), {}, {})

    def rewrite(table: str, file: Path, fresh: Path) -> bool:
        if table == "metrics":
            pq.write_table(pq.read_table(file).slice(1), fresh)
        return table == "metrics"

    amend(store, "evaluate", NIGHT, rewrite)
    after = store.manifest("evaluate", NIGHT)
    assert after is not None
    assert visible(store) == []
    assert after["tables"]["metrics"]["rows"] == 0
    assert digests(after) == digests(before)
    assert after["tables"]["metrics"]["files"][0]["sha256"] != before["tables"]["metrics"]["files"][0]["sha256"]
    assert store.begin("evaluate", NIGHT, {"inputs": "a"}) is None


def test_only_runs_that_a_night_points_to_survive_the_removal_of_replaced_ones(store: Warehouse) -> None:
    for inputs in "ab":
        store.publish(staged(store, inputs, 7), {}, {})
    assert len(list((store.root / "_runs").iterdir())) == 2
    store.drop_replaced()
    assert len(list((store.root / "_runs").iterdir())) == 1
    assert visible(store) == [7]


def test_who_only_looks_whether_a_lease_is_held_does_not_keep_its_run_from_it(tmp_path: Path) -> None:
    """Another run looks in the moment between the making of the lease's file and its locking."""
    path = tmp_path / "run"
    looking = os.open(lease.of(path), os.O_CREAT | os.O_RDWR)
    fcntl.flock(looking, fcntl.LOCK_SH)
    with pytest.raises(BlockingIOError):
        lease.Lease(path)
    threading.Timer(0.2, os.close, [looking]).start()
    held = lease.Lease(path, wait=True)
    assert lease.is_held(path)
    held.end()


def test_who_meets_an_amendment_sees_the_night_before_it_or_after_it(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = date(2026, 1, 3)
    store.publish(staged(store, "a", 1), {}, {})
    run = begun(store, "b", other)
    run.keep("metrics", store.files("metrics", NIGHT))
    store.publish(run, {}, {})
    seen: list[list[int]] = []

    def look(_: str) -> None:
        assert list(verify.damages(store)) == []
        seen.append(visible(store))

    asked: list[Path] = []

    def rewrite(table: str, file: Path, fresh: Path) -> bool:
        if table == "metrics":
            asked.append(file)
            pq.write_table(pa.table({"value": [2]}), fresh)
        return table == "metrics"

    monkeypatch.setattr(crash, "point", look)
    amended: Amended = {}
    for night in (NIGHT, other):
        amend(store, "evaluate", night, rewrite, amended)
    assert [1] in seen
    assert seen == sorted(seen)
    assert visible(store) == [2]
    assert len(asked) == 1  # the nights share the file, before and after
    assert len({file.path.stat().st_ino for night in (NIGHT, other) for file in store.files("metrics", night)}) == 1


def test_an_amendment_loses_to_a_run_that_publishes_meanwhile(store: Warehouse) -> None:
    store.publish(staged(store, "a", 1), {}, {})

    def rewrite(table: str, file: Path, fresh: Path) -> bool:
        if table == "metrics":
            store.publish(staged(store, "b", 3), {}, {})
            pq.write_table(pa.table({"value": [2]}), fresh)
        return table == "metrics"

    with pytest.raises(PublishConflictError):
        amend(store, "evaluate", NIGHT, rewrite)
    assert visible(store) == [3]
    assert list((store.root / "_staging").iterdir()) == []


def test_a_night_in_which_nothing_is_amended_stays_the_run_that_it_was(store: Warehouse) -> None:
    before = store.publish(staged(store, "a", 1), {}, {})
    amend(store, "evaluate", NIGHT, lambda *_: False)
    assert store.manifest("evaluate", NIGHT) == before
    assert len(store.runs()) == 1


def test_a_run_goes_in_one_step_and_what_a_killed_removal_leaves_with_the_next_run(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (1, 2):
        store.publish(staged(store, f"{value}", value), {}, {})

    def dies(name: str) -> None:
        if name == "discard: moved":
            raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(crash, "point", dies)
        with pytest.raises(KeyboardInterrupt):
            store.drop_replaced()
    assert len(store.runs()) == 1
    assert visible(store) == [2]
    store.drop_dead()
    assert list((store.root / "_staging").iterdir()) == []


def test_what_a_task_opens_that_nobody_waits_for_is_in_no_published_night(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = staged(store, "a", 1)
    late = [run.path("metrics") / "late.parquet", run.path("metrics") / "_temporary/0/part-0.parquet"]
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        """The last moment at which its path leads anywhere."""
        if path == run.directory:
            late[1].parent.mkdir(parents=True)
            for file in late:
                file.write_text("half a file")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    store.publish(run, {}, {})
    assert visible(store) == [1]
    assert list(verify.damages(store)) == []
    assert [path.name for path in store.path("metrics", NIGHT).iterdir()] == ["part-0.parquet"]
    with pytest.raises(FileNotFoundError):
        late[0].write_text("later still")
