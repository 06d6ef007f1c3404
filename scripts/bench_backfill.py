"""Nights of Complete Journey made under Airflow, and the same nights by hand; run by scripts/bench, which see."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

import duckdb
import yaml
from bench_processes import BENCH, SHORT_LIVED, fresh_folder

from halflife.warehouse import NIGHTLY, TABLES, Warehouse, digests

ROOT = Path(__file__).parents[1]
FIRST = date(2017, 11, 24)
JOBS = ("sessionize", "score")

Digests = dict[tuple[date, str], list[str]]  # of each table of each night: those of its files


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench backfill", description=__doc__)
    parser.add_argument("--nights", type=int, default=30, help="after that of the history (default: %(default)s)")
    parser.add_argument("--households", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for one object")
    options = parser.parse_args()
    os.environ["JAVA_TOOL_OPTIONS"] = SHORT_LIVED
    work = fresh_folder(BENCH / "backfill")
    data = [ROOT / ".demo/completejourney", work / "raw", "--households", str(options.households)]
    subprocess.run([sys.executable, ROOT / "scripts/demo_data.py", *data], check=True)
    nights = [FIRST + timedelta(days=n + 1) for n in range(options.nights)]
    seconds = {"history": timed(lambda: history(work))}
    for name in ("airflow", "by_hand"):
        shutil.copytree(work / "history", work / name, symlinks=True)
    seconds["airflow"] = timed(lambda: under_airflow(work, nights))
    first, last = nights[0].isoformat(), nights[-1].isoformat()
    by_hand = [(job, "--from", first, "--as-of", last) for job in JOBS]
    seconds["by_hand"] = timed(lambda: submit(work, "by_hand", by_hand))
    seconds["rebuild"] = timed(lambda: submit(work, "rebuild", [("sessionize", "--as-of", last)]))
    for name, taken in seconds.items():
        print(f"{name}: {taken:,.0f} s")
    found = {name: digests_of(work / name, nights) for name in ("airflow", "by_hand", "rebuild")}
    different = differing(found["airflow"], found["by_hand"])
    print(f"under Airflow and by hand: {len(found['airflow'])} tables of {len(nights)} nights, {len(different)} differ")
    whole = {key: files for key, files in found["rebuild"].items() if key[1] not in NIGHTLY}
    laid = differing({key: found["airflow"][key] for key in whole}, whole)
    rebuilt = [f"{night} {table}" for night, table in laid if not same_rows(work, night, table)]
    print(f"under Airflow and one rebuild: {len(whole)} tables of {last}, {len(rebuilt)} differ", end="; ")
    print(f"in other files, as nights write files of their own: {', '.join(table for _, table in laid)}")
    print(*(f"{night} {table}" for night, table in different), *rebuilt, sep="\n")
    if options.json:
        result = {"nights": len(nights), "seconds": seconds, "differ": len(different), "rebuilt_differ": len(rebuilt)}
        options.json.write_text(json.dumps({"bench": "backfill", **result}) + "\n", encoding="utf-8")
    sys.exit(1 if different or rebuilt else 0)


def timed(step: Callable[[], None]) -> float:
    """Seconds that a step takes."""
    begin = time.monotonic()
    step()
    return time.monotonic() - begin


def config(work: Path, name: str) -> Path:
    """The demo's config over the small log, with a warehouse called `name`."""
    raw, path = work / "raw", work / f"{name}.yaml"
    keys = {
        "extends": str(ROOT / "conf/local.yaml"),
        "warehouse": str(work / name),
        "sources": {kind: {"path": f"{raw}/{kind}/date={{date}}/*.parquet"} for kind in ("purchases", "redemptions")},
        "users": {"path": f"{raw}/households.parquet"},
        "items": {"path": f"{raw}/products.parquet"},
        "train": {"epochs": 1},
    }
    path.write_text(yaml.safe_dump(keys), encoding="utf-8")
    return path


def submit(work: Path, name: str, jobs: Sequence[tuple[str, ...]]) -> None:
    """Submit jobs one after the other."""
    for job, *options in jobs:
        subprocess.run([ROOT / "scripts/submit", job, "--config", config(work, name), *options], check=True)


def history(work: Path) -> None:
    """The night that the backfill starts from, and a model."""
    night = ("--as-of", FIRST.isoformat())
    submit(work, "history", [("sessionize", *night), ("train", *night), ("score", *night)])


def under_airflow(work: Path, nights: Sequence[date]) -> None:
    """Let the nightly DAG make the nights, in a home of its own, in order."""
    settings = {"config": str(config(work, "airflow")), "home": str(ROOT), "logs": str(work / "logs")}
    settings |= {"first_night": nights[0], "evaluate": False, "settle_minutes": 0}
    path, home = work / "airflow_settings.yaml", work / "airflow_home"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    environment = os.environ | {
        "HALFLIFE_AIRFLOW": str(path),
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": str(ROOT / "jobs/dags"),  # where Airflow's own processes look for what DAGs import
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "jobs/dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW_CONN_SPARK_HALFLIFE": json.dumps({"conn_type": "spark", "host": "local[*]"}),
    }
    home.mkdir()
    binaries = ROOT / ".venv-airflow/bin"
    with (work / "airflow.log").open("w") as log:
        for command in (
            ["airflow", "db", "migrate"],
            ["python", ROOT / "tests/airflow/nightly.py", *(night.isoformat() for night in nights)],
        ):
            subprocess.run([binaries / command[0], *command[1:]], env=environment, stdout=log, stderr=log, check=True)


def digests_of(root: Path, nights: Sequence[date]) -> Digests:
    """The digests of each table of the nights that are there."""
    store = Warehouse(root)
    return {
        (night, table): files
        for job in JOBS
        for night in nights
        if night in store.nights(job)
        for table, files in digests(store.manifest(job, night) or {}).items()
        if table in TABLES[job]
    }


def differing(some: Digests, others: Digests) -> list[tuple[date, str]]:
    """The nights and tables whose digests are not the same."""
    return [key for key in sorted(some.keys() | others.keys()) if some.get(key) != others.get(key)]


def same_rows(work: Path, night: date, table: str) -> bool:
    """Whether a table of Airflow's has the rows of the rebuild, each as often."""
    some, others = (
        duckdb.read_parquet(f"{work / name}/{table}/as_of={night}/*.parquet") for name in ("airflow", "rebuild")
    )
    return not any(len(left.except_(right)) for left, right in ((some, others), (others, some)))


if __name__ == "__main__":
    main()
