"""A damaged file is named, a replaced run comes back, and only what nobody reads is removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halflife import cli, crash
from halflife.errors import AuditError, HalflifeError, InputMissingError
from halflife.status import StatusFile
from halflife.upkeep import collect, verify
from halflife.upkeep.rollback import roll_back
from halflife.warehouse import Warehouse, lease
from halflife.warehouse.manifest import read_manifest
from small_night import NIGHT, begun, staged

LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def store(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse")


def publish(store: Warehouse, value: int, night: date = NIGHT) -> Path:
    """A night of one row; returns the folder of its run."""
    store.publish(staged(store, f"{value}", value, night), {}, {})
    return store.night_link("evaluate", night).resolve()


def visible(store: Warehouse) -> list[int]:
    values: list[int] = pq.read_table(store.path("metrics", NIGHT), partitioning=None)["value"].to_pylist()
    return values


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_whole_warehouse_has_no_damage(store: Warehouse) -> None:
    publish(store, 1)
    assert list(verify.damages(store)) == []


@pytest.mark.parametrize(
    ("harm", "where", "what"),
    [
        (flip, "metrics/part-0.parquet", "not those that were published"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "metrics/part-0.parquet", "bytes, published were"),
        (Path.unlink, "metrics/part-0.parquet", "cannot be read"),
        (Path.unlink, "manifest.json", "it is missing"),
        (lambda path: path.write_text("{"), "manifest.json", "cannot be read"),
        (lambda path: path.write_text("more"), "metrics/part-1.parquet", "is in no manifest"),
        (lambda path: shutil.rmtree(path.parent), "manifest.json", "which is not there"),
    ],
)
def test_what_is_damaged_is_named(store: Warehouse, harm: Callable[[Path], object], where: str, what: str) -> None:
    run = publish(store, 1)
    harm(run / where)
    (damage,) = verify.damages(store)
    assert what in damage.what
    assert (run / where).is_relative_to(damage.path) or damage.path == store.night_link("evaluate", NIGHT)


def test_a_flipped_byte_is_found_by_reading_and_not_by_a_quick_look(store: Warehouse) -> None:
    flip(publish(store, 1) / "metrics/part-0.parquet")
    assert list(verify.damages(store, digests=False)) == []
    assert list(verify.damages(store, as_of=date(2026, 1, 1))) == []
    assert len(list(verify.damages(store, as_of=NIGHT))) == 1


PUBLISHING = ("publish: described", "publish: moved", "publish: tables linked", "publish: switched")
PARTS = ("_nights", "_runs", "metrics", "evaluation")


@given(
    begin=st.sampled_from(PUBLISHING), end=st.sampled_from(PUBLISHING), late=st.sets(st.sampled_from(PARTS)),
    cut=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_a_copy_that_is_made_while_a_run_publishes_is_told_whole_from_partial(
    tmp_path_factory: pytest.TempPathFactory, begin: str, end: str, late: set[str], cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("copied")
    store, copy = Warehouse(folder / "warehouse"), Warehouse(folder / "copy")
    publish(store, 1)

    def copied(parts: set[str]) -> None:
        for name in parts:
            shutil.copytree(store.root / name, copy.root / name, symlinks=True)

    def reached(point: str) -> None:
        """The copy takes some folders at one point of the publishing, the others at another one."""
        copied((set(PARTS) - late if point == begin else set()) | (late if point == end else set()))

    with pytest.MonkeyPatch.context() as watched:
        watched.setattr(crash, "point", reached)
        publish(store, 2)
    files = [*copy.root.glob("_runs/*/metrics/*.parquet")]
    if cut and files:  # the copy of a file was not at its end
        files[-1].write_bytes(files[-1].read_bytes()[:-100])
    whole = list(verify.damages(copy)) == []
    try:
        assert visible(copy)[0] in (1, 2)
        read = (copy.path("evaluation", NIGHT) / "metrics.json").is_file()
    except (OSError, ValueError, HalflifeError):
        read = False
    assert whole == read


def test_a_copy_that_followed_the_links_is_told_what_to_do(store: Warehouse, tmp_path: Path) -> None:
    publish(store, 1)
    shutil.copytree(store.root, tmp_path / "copy", symlinks=False)
    (damage,) = verify.damages(Warehouse(tmp_path / "copy"))
    assert "cp -a" in damage.what


def test_rolling_back_shows_readers_the_run_before(store: Warehouse) -> None:
    first = publish(store, 1)
    publish(store, 2)
    publish(store, 3)
    roll_back(store, "evaluate", NIGHT)
    assert visible(store) == [2]
    for _ in range(2):  # to ask for it again, after a kill say, changes nothing
        assert roll_back(store, "evaluate", NIGHT, first.name) == first.name
        assert visible(store) == [1]
    assert list(verify.damages(store)) == []


def test_rolling_back_again_goes_further_back_and_never_to_a_run_that_no_reader_saw(store: Warehouse) -> None:
    for value in (1, 2, 3):
        publish(store, value)
    never = begun(store, "never")
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(store, "switch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        never.path("metrics").mkdir()
        pq.write_table(pa.table({"value": [9]}), never.path("metrics") / "part-0.parquet")
        with pytest.raises(KeyboardInterrupt):
            store.publish(never, {}, {})
    roll_back(store, "evaluate", NIGHT)
    assert visible(store) == [2]
    roll_back(store, "evaluate", NIGHT)
    assert visible(store) == [1]
    with pytest.raises(InputMissingError):
        roll_back(store, "evaluate", NIGHT)


def test_after_a_rollback_the_job_publishes_again_what_its_inputs_make(store: Warehouse) -> None:
    publish(store, 1)
    publish(store, 2)
    roll_back(store, "evaluate", NIGHT)
    assert store.begin("evaluate", NIGHT, {"inputs": "1"}) is None
    publish(store, 2)
    assert visible(store) == [2]


def test_no_run_comes_back_that_is_not_there_or_not_whole(store: Warehouse) -> None:
    first = publish(store, 1)
    with pytest.raises(InputMissingError, match="an earlier run is not kept"):
        roll_back(store, "evaluate", NIGHT)
    publish(store, 2)
    flip(first / "metrics/part-0.parquet")
    with pytest.raises(AuditError, match="nothing was changed"):
        roll_back(store, "evaluate", NIGHT)
    assert visible(store) == [2]


def test_a_replaced_run_is_garbage_when_its_days_are_over(store: Warehouse) -> None:
    old = publish(store, 1)
    new = publish(store, 2)
    assert collect.garbage(store, replaced_days=7, now=datetime.now(UTC)) == []
    pieces = collect.garbage(store, replaced_days=7, now=LATER)
    assert [piece.path for piece in pieces] == [old]
    collect.remove(store, pieces)
    assert [*store.runs()] == [new]
    assert list(verify.damages(store)) == []


def test_a_warehouse_behind_a_link_loses_nothing_that_readers_see(store: Warehouse, tmp_path: Path) -> None:
    publish(store, 1)
    (tmp_path / "link").symlink_to(store.root)
    linked = Warehouse(tmp_path / "link")
    assert collect.garbage(linked, replaced_days=0, now=LATER) == []
    with pytest.raises(InputMissingError):
        roll_back(linked, "evaluate", NIGHT)


def test_links_that_a_killed_run_had_not_yet_named_go(store: Warehouse) -> None:
    publish(store, 1)
    for folder in ("_nights/evaluate", "metrics"):
        (store.root / folder / ".as_of=2026-01-02.abc").symlink_to("nowhere")
    publish(store, 2)
    assert not [*store.root.glob("**/.as_of=*")]


def test_bytes_that_another_run_shares_are_not_counted_as_freed(store: Warehouse) -> None:
    publish(store, 1)
    (shared,) = store.files("metrics", NIGHT)
    run = begun(store, "b", date(2026, 1, 3))
    run.keep("metrics", [shared])
    store.publish(run, {}, {})
    publish(store, 2)
    (piece,) = collect.garbage(store, replaced_days=7, now=LATER)
    assert 0 < piece.bytes < shared.path.stat().st_size + 3000
    size = (piece.path / "manifest.json").stat().st_size + (piece.path / "evaluation/metrics.json").stat().st_size
    assert piece.bytes == size


def test_what_a_killed_run_has_staged_goes_and_what_a_living_one_has_stays(store: Warehouse) -> None:
    dead, living = begun(store, "a"), begun(store, "b")
    dead.lease.end()  # as the kernel does when its process dies
    assert [piece.path for piece in collect.garbage(store, 7, datetime.now(UTC))] == [dead.directory]
    publish(store, 3)  # the next run clears up by itself
    assert not dead.directory.exists()
    assert living.directory.exists()
    assert lease.is_held(living.directory)


def test_of_a_run_killed_after_its_folder_was_moved_not_even_the_lease_stays(store: Warehouse) -> None:
    living = begun(store, "a")
    living.directory.rename(store.root / "moved")
    lease.of(store.root / "_staging" / "killed").touch()  # nobody holds it
    publish(store, 3)
    assert [path.name for path in (store.root / "_staging").iterdir()] == [f"{living.id}.lease"]
    lease.of(store.root / "_staging" / "killed").touch()
    assert store.begin("evaluate", NIGHT, {"inputs": "3"}) is None  # nothing to do but this
    assert [path.name for path in (store.root / "_staging").iterdir()] == [f"{living.id}.lease"]


def test_a_run_that_came_back_meanwhile_is_not_removed(store: Warehouse) -> None:
    publish(store, 1)
    publish(store, 2)
    pieces = collect.garbage(store, 7, LATER)
    roll_back(store, "evaluate", NIGHT)
    collect.remove(store, pieces)
    assert visible(store) == [1]


def test_old_status_files_go_but_never_that_of_a_run_that_goes_on(store: Warehouse) -> None:
    ended, going = StatusFile(store.root, "score", NIGHT), StatusFile(store.root, "score", NIGHT)
    ended.end("published", 0, "")
    assert [piece.path for piece in collect.garbage(store, 7, LATER)] == [ended.path]
    going.end("published", 0, "")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_a_manifest_or_an_error_that_names_the_file(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "manifest.json"
    path.write_text(json.dumps(value))
    with pytest.raises(HalflifeError, match=r"manifest\.json"):
        read_manifest(path)


def test_the_commands_say_what_they_found(store: Warehouse, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"warehouse: {store.root}\nkeep: {{replaced_days: 0}}\nevent_types: {{view: {{weight: 1}}}}\n"
        "sources: {a: {path: a.csv, format: csv, event_type: view, columns: {user: u, item: i, time: t}}}\n"
    )

    def halflife(*words: str) -> tuple[int, str]:
        code = cli.main([words[0], "--config", str(config), *words[1:]])
        return code, "".join(capsys.readouterr())

    assert halflife("verify")[0] == 3
    publish(store, 1)
    run = publish(store, 2)
    assert halflife("verify") == (0, "1 nights are whole\n")
    assert halflife("verify", "--as-of", "2031-01-01")[0] == 3
    assert halflife("rollback", "scores", "--as-of", "2026-01-02")[0] == 3
    assert halflife("rollback", "no_table", "--as-of", "2026-01-02")[0] == 2
    assert halflife("rollback", "metrics", "--as-of", "2026-01-02")[0] == 0
    assert visible(store) == [1]
    code, shown = halflife("gc")
    assert (code, run.exists()) == (0, True)
    assert f"_runs/{run.name}" in shown
    assert halflife("gc", "--remove")[0] == 0
    assert not run.exists()
    flip(store.path("metrics", NIGHT) / "part-0.parquet")
    code, shown = halflife("verify")
    assert code == 4
    assert "part-0.parquet: its bytes are not those" in shown
