"""What a night costs beside the rebuild of its year; run by scripts/bench, which see."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from datetime import timedelta
from pathlib import Path

from bench_log import Log
from bench_processes import BENCH, fresh_folder, read_once, sessionize, verdict


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench nightly", description=__doc__)
    parser.add_argument("--events", type=float, default=36, help="millions, of the whole year (default: %(default)s)")
    parser.add_argument("--users", type=int, default=100_000, help="(default: %(default)s)")
    parser.add_argument("--days", type=int, default=365, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for one object")
    parser.add_argument("--check", action="store_true", help="exit code 1 where the target is missed")
    options = parser.parse_args()
    log = Log(round(options.events * 1_000_000), options.users, options.days)
    files = log.cached(BENCH / "logs")
    read_once(files)
    work = fresh_folder(BENCH / "nightly")
    events_a_day = log.events // log.days
    print(f"rebuild: {log.events - 2 * events_a_day:,} events", file=sys.stderr)
    warehouse, first = work / "warehouse", log.last_day - timedelta(days=1)
    costs = {"rebuild": sessionize(files, warehouse, log.events, first)}
    print(f"two nights in one process: {events_a_day:,} events each", file=sys.stderr)
    nights = (first + timedelta(days=1), first + timedelta(days=2))
    costs["night"] = sessionize(files, warehouse, events_a_day, *nights)
    shutil.rmtree(work)
    for what, cost in costs.items():
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in cost.stages.items())
        memory = f"{cost.peak_bytes / 2**30:.2f} GiB"
        print(f"{what}: {cost.seconds:,.1f} s ({stages}), with the JVM's start {cost.process_seconds:,.1f} s, {memory}")
    (next_night,) = costs["night"].later
    share, warm = (seconds / costs["rebuild"].seconds for seconds in (costs["night"].seconds, next_night))
    print(f"the next night in the same JVM: {next_night:,.1f} s, {warm:.3g} of the rebuild")
    line, reached = verdict("night / rebuild, start of the JVM left out", share, 1 / 20, at_least=False)
    print(line)
    if options.json:
        result = {
            "bench": "nightly",
            "events": log.events,
            "rebuild_s": round(costs["rebuild"].seconds, 2),
            "night_s": round(costs["night"].seconds, 2),
            "next_night_s": round(next_night, 2),
            "share": round(share, 4),
            "next_night_share": round(warm, 4),
            "stages_s": {what: dict(cost.stages) for what, cost in costs.items()},
            "rss_mb": {what: round(cost.peak_bytes / 2**20) for what, cost in costs.items()},
        }
        options.json.write_text(json.dumps(result) + "\n", encoding="utf-8")
    if options.check and not reached:
        sys.exit(1)


if __name__ == "__main__":
    main()
