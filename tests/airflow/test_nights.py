"""Two nights under Airflow for real, on a small log; a third whose log fails its audit; and a night made once more."""

from __future__ import annotations

import json
import os
import random
import subprocess
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG
from nightly import ROOT, load, run, write_settings

FIRST = date(2026, 2, 10)
SECOND, THIRD = FIRST + timedelta(days=1), FIRST + timedelta(days=2)
CONFIG = """\
warehouse: {folder}/warehouse
sources:
  shop:
    path: {folder}/raw/{{date}}.csv
    format: csv
    event_type: purchase
    columns: {{user: who, item: what, time: at}}
event_types: {{purchase: {{weight: 1.0}}}}
model: {{kind: exponential, half_life_days: 4}}
alarms: {{quarantine_share: {{high: 0.2}}}}
"""


@dataclass(frozen=True)
class Shop:
    """A folder with a raw log and a warehouse, and the DAG that makes its nights."""

    folder: Path
    dag: DAG

    def links(self) -> dict[str, str]:
        """What every published night points to."""
        nights = (self.folder / "warehouse/_nights").glob("*/*")
        return {f"{path.parent.name} {path.name}": str(path.readlink()) for path in nights}

    def logs(self) -> str:
        """What the jobs wrote to their log files."""
        return "".join(path.read_text() for path in (self.folder / "logs").glob("*.log"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Forty customers who come back to what they bought, a month of them."""
    folder, chance = tmp_path_factory.mktemp("shop"), random.Random(3)
    (folder / "raw").mkdir()
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))
    for n in range(42):
        day = FIRST + timedelta(days=n - 40)
        begin = datetime.combine(day, datetime.min.time(), UTC)
        rows = [
            f"user-{user},item-{(user + chance.choice([0, 0, 1, 5])) % 12},{begin + timedelta(hours=8, minutes=user)}"
            for user in range(40)
            if chance.random() < 0.4
        ]
        (folder / "raw" / f"{day}.csv").write_text("\n".join(["who,what,at", *rows]) + "\n")
    path = write_settings(
        folder / "airflow.yaml", home=str(ROOT), logs=str(folder / "logs"), config=str(folder / "config.yaml")
    )
    os.environ["HALFLIFE_AIRFLOW"] = str(path)
    # Jobs of seconds: the time that the JVM's second compiler and its parallel collector cost never comes back.
    os.environ["JAVA_TOOL_OPTIONS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    return Shop(folder, load("halflife_nightly"))


@pytest.fixture(scope="module")
def nights(shop: Shop) -> dict[date, dict[str, tuple[str, int]]]:
    """Both nights, one after the other."""
    return {night: run(shop.dag, night) for night in (FIRST, SECOND)}


def test_two_nights_run_to_their_end(nights: dict[date, dict[str, tuple[str, int]]], shop: Shop) -> None:
    tasks = ("wait_for_events", "sessionize", "score", "verify", "evaluate", "report")
    assert nights == dict.fromkeys((FIRST, SECOND), dict.fromkeys(tasks, ("success", 1)))
    jobs = ("sessionize", "score", "report")  # nothing can be evaluated before a horizon has passed
    assert sorted(shop.links()) == sorted(f"{job} as_of={night}" for job in jobs for night in (FIRST, SECOND))


def test_the_second_night_builds_on_the_first(nights: object, shop: Shop) -> None:
    manifest = json.loads((shop.folder / f"warehouse/_nights/score/as_of={SECOND}/manifest.json").read_text())
    assert manifest["inputs"]["before"] is not None
    assert 0 < manifest["metrics"]["encoded"] < 40


def test_a_cleared_night_has_nothing_to_do(nights: object, shop: Shop) -> None:
    before = shop.links()
    assert {state for state, _ in run(shop.dag, SECOND).values()} == {"success"}
    assert shop.links() == before
    assert shop.logs().count("nothing to do") >= 3


def test_a_failed_audit_stops_the_chain_and_leaves_yesterdays_table(nights: object, shop: Shop) -> None:
    before = shop.links()
    file = shop.folder / "raw" / f"{SECOND}.csv"
    whole = file.read_text()
    file.write_text(whole.replace("user-", ",user-"))
    states = run(shop.dag, THIRD)
    assert states["sessionize"] == ("failed", 1)
    assert {states[task][0] for task in ("score", "verify", "evaluate", "report")} == {"upstream_failed"}
    assert shop.links() == before
    assert list((shop.folder / "warehouse/_staging").iterdir()) == []
    # Delivered anew, and cleared: as if nothing had been.
    file.write_text(whole)
    assert {state for state, _ in run(shop.dag, THIRD).values()} == {"success"}
    assert before.items() < shop.links().items()


def test_nights_under_airflow_are_those_of_one_command_by_hand(nights: object, shop: Shop) -> None:
    """Digest by digest; the third night is the one that failed and was cleared."""
    (shop.folder / "by_hand.yaml").write_text(CONFIG.format(folder=shop.folder).replace("/warehouse", "/by_hand"))
    for job in ("sessionize", "score"):
        options = ["--config", shop.folder / "by_hand.yaml", "--from", str(FIRST), "--as-of", str(THIRD)]
        submit = [ROOT / "scripts/submit", job, *options]
        environment = {**os.environ, "HALFLIFE_LOGS": str(shop.folder / "logs"), "HALFLIFE_MASTER": "local[2]"}
        subprocess.run(submit, env=environment, check=True)
        for night in (FIRST, SECOND, THIRD):
            place = f"_nights/{job}/as_of={night}/manifest.json"
            made, by_hand = (digests(shop.folder / root / place) for root in ("warehouse", "by_hand"))
            assert made == by_hand


def digests(manifest: Path) -> dict[str, list[str]]:
    """Of each table: what its files are known by."""
    tables = json.loads(manifest.read_text())["tables"]
    return {
        name: sorted(file.get("content_sha256") or file["sha256"] for file in table["files"])
        for name, table in tables.items()
    }
