"""How long the evaluation of weekly nights takes, with every baseline and interval; run by scripts/bench, which see."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from datetime import timedelta
from pathlib import Path

from bench_log import Log
from bench_processes import BENCH, WEIGHTS, Measured, fresh_folder, read_once, spark_submit, verdict

DAYS = 150  # of the log: four months before the first of four weekly nights
TARGET_SECONDS, TARGET_BYTES = 600, 6 * 2**30
# What a basket holds: three tenths of the events.
TYPES = ["click", "cart", "purchase"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench evaluate", description=__doc__)
    parser.add_argument("--users", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--items", type=int, default=50_000, help="(default: %(default)s)")
    parser.add_argument("--events", type=float, default=5, help="millions, of 150 days (default: %(default)s)")
    parser.add_argument("--nights", type=int, default=4, help="a week apart (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for one object")
    parser.add_argument("--check", action="store_true", help="exit code 1 where the target is missed")
    options = parser.parse_args()
    log = Log(round(options.events * 1_000_000), options.users, DAYS, options.items)
    files = log.cached(BENCH / "logs")
    read_once(files)
    work = fresh_folder(BENCH / "evaluate")
    cost = evaluate(log, files, work, options.nights)
    shutil.rmtree(work)
    pairs = options.nights * options.users * options.items
    for name, seconds in cost.stages.items():
        print(f"{name}: {seconds:,.1f} s")
    print(f"{pairs:,} pairs: {cost.seconds:,.1f} s, {cost.peak_bytes / 2**30:.2f} GiB in all processes")
    lines = [
        verdict("evaluation", cost.seconds, TARGET_SECONDS, at_least=False, unit=" s"),
        verdict("memory", cost.peak_bytes / 2**30, TARGET_BYTES / 2**30, at_least=False, unit=" GiB"),
    ]
    for line, _ in lines:
        print(line)
    if options.json:
        result = {
            "bench": "evaluate",
            "users": options.users,
            "items": options.items,
            "events": log.events,
            "nights": options.nights,
            "seconds": round(cost.seconds, 2),
            "stages_s": dict(cost.stages),
            "rss_mb": round(cost.peak_bytes / 2**20),
        }
        options.json.write_text(json.dumps(result) + "\n", encoding="utf-8")
    if options.check and not all(reached for _, reached in lines):
        sys.exit(1)


def evaluate(log: Log, files: Path, work: Path, weeks: int) -> Measured:
    """Sessionize and score the nights by the exponential law, then evaluate them all."""
    columns = {"user": "user_id", "item": "item_id", "time": "event_time"}
    columns |= {"event_type": "event_type", "dwell_seconds": "dwell_seconds"}
    config = {
        "warehouse": str(work / "warehouse"),
        "sources": {"log": {"path": f"{files}/date={{date}}/*.parquet", "columns": columns}},
        "event_types": {name: {"weight": weight} for name, weight in WEIGHTS.items()},
        "evaluate": {"event_types": TYPES},
    }
    path = work / "config.yaml"
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")  # which is YAML as well
    end = log.last_day + timedelta(days=1)
    nights = [end - timedelta(weeks=week) for week in range(weeks, 0, -1)]
    for job, days in (("sessionize", [*nights, end]), ("score", nights)):
        print(f"{job} {', '.join(map(str, days))}", file=sys.stderr)
        spark_submit("bench_job.py", path, *days, "--job", job, events=log.events)
    print(f"evaluate {end}", file=sys.stderr)
    return spark_submit("bench_job.py", path, end, "--job", "evaluate", events=log.events)


if __name__ == "__main__":
    main()
