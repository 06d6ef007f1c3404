"""Two publishers of one night at once, again and again, while a reader looks: one wins, and nobody sees a mixture."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from halflife.warehouse import Warehouse

RACES = 50
NIGHT = date(2026, 1, 2)
# A publisher: for each race it stages files that belong together when told, says so, and publishes when told again.
PUBLISHER = """
import sys
from datetime import date
import pyarrow as pa, pyarrow.parquet as pq
from halflife.errors import PublishConflictError
from halflife.warehouse import Warehouse
store, me = Warehouse(sys.argv[1]), int(sys.argv[2])
for line in sys.stdin:
    race = int(line)
    run = store.begin("evaluate", date(2026, 1, 2), {"race": race, "publisher": me})
    run.path("evaluation").mkdir()
    (run.path("evaluation") / "metrics.json").write_text(f"{race} {me}")
    run.path("metrics").mkdir()
    for part in range(2):
        pq.write_table(pa.table({"race": [race], "publisher": [me]}), run.path("metrics") / f"{part}.parquet")
    print("staged", flush=True)
    sys.stdin.readline()
    with store.staged(run):
        try:
            store.publish(run, {}, {})
            print("won", flush=True)
        except PublishConflictError:
            print("lost", flush=True)
"""


def test_of_two_publishers_one_wins_each_time_and_a_reader_never_sees_a_mixture(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PUBLISHER, str(tmp_path)]
    publishers = [
        subprocess.Popen([*command, str(me)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for me in (0, 1)
    ]
    store, seen = Warehouse(tmp_path), set()
    for race in range(RACES):
        for publisher in publishers:
            _tell(publisher, race)
        assert [_hear(publisher) for publisher in publishers] == ["staged", "staged"]
        for publisher in publishers:
            _tell(publisher, race)
        for _ in range(5):
            seen.add(_read(store))
        outcomes = [_hear(publisher) for publisher in publishers]
        assert sorted(outcomes) == ["lost", "won"]
        assert _read(store) == (race, outcomes.index("won"))
    for publisher in publishers:
        publisher.communicate()
    assert len(store.runs()) == RACES
    assert not any((tmp_path / "_staging").iterdir())
    assert len(seen) > 1


def _read(store: Warehouse) -> tuple[int, int] | None:
    """What a reader that opens the night finds: race and publisher, the same in all its files."""
    if not store.nights("evaluate"):
        return None
    folder = store.path("metrics", NIGHT)
    found = {tuple(row.values()) for row in pq.read_table(folder, partitioning=None).to_pylist()}
    found.add(tuple(int(word) for word in (folder.parent / "evaluation" / "metrics.json").read_text().split()))
    ((race, publisher),) = found
    return race, publisher


def _tell(publisher: subprocess.Popen[str], race: int) -> None:
    assert publisher.stdin is not None
    publisher.stdin.write(f"{race}\n")
    publisher.stdin.flush()


def _hear(publisher: subprocess.Popen[str]) -> str:
    assert publisher.stdout is not None
    return publisher.stdout.readline().strip()
