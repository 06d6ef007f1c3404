"""The sessionize job against plain Spark and DuckDB, on the same generated logs; run by scripts/bench, which see."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
from bench_log import Log
from bench_processes import (
    BENCH,
    FEATURES,
    Measured,
    fresh_folder,
    python,
    read_once,
    sessionize,
    spark_submit,
    verdict,
)
from rich.console import Console
from rich.table import Table

PEERS = ("lag_cumsum", "session_window", "duckdb")
CONTESTANTS = ("ours", *PEERS)
ABOUT = """\
seconds: from the answer to a trivial query to the end, start of the process and the JVM left out
ours: the whole job: parse, clean, duplicates, sessions, events, sequences, audit, publish; peers: the sequences alone
memory: the most of all processes of ours at once, shared pages counted once"""
CLOSE = ("strength", "event_seconds", "gap_log", "revisit_gap_log")  # equal to a millionth; all others exactly


def race(events: int, contestants: list[str]) -> tuple[dict[str, Measured], str | None]:
    """What each contestant cost on a log of so many events, and how their sequences differ from DuckDB's."""
    log = Log(events, users=max(events // 100, 1))
    files = log.cached(BENCH / "logs")
    read_once(files)
    work = fresh_folder(BENCH / "sessionize")
    costs, outputs = {}, {}
    for name in contestants:
        print(f"{events:,} events: {name}", file=sys.stderr)
        outputs[name] = work / name
        if name == "ours":
            as_of = log.last_day + timedelta(days=1)
            costs[name] = sessionize(files, work / "warehouse", events, as_of)
            outputs[name] = work / "warehouse" / "sequences" / f"as_of={as_of}"
        elif name == "duckdb":
            costs[name] = python("bench_duckdb.py", files, outputs[name])
        else:
            costs[name] = spark_submit("bench_spark.py", name, files, outputs[name], events=events)
    for name in outputs:
        if "duckdb" in outputs and name != "duckdb" and (found := difference(outputs[name], outputs["duckdb"])):
            return costs, f"{events:,} events, {name} is not equal to duckdb: {found}"
    shutil.rmtree(work)
    return costs, None


def difference(these: Path, those: Path) -> str | None:
    """The first rows in which two tables of sequences differ, or None where they hold the same of every user."""
    with duckdb.connect(config={"threads": 2, "preserve_insertion_order": False}) as database:
        for name, folder in (("a", these), ("b", those)):
            database.execute(f"CREATE VIEW {name} AS FROM read_parquet('{folder}/*.parquet')")
        users = [
            database.execute(f"SELECT count(*), count(DISTINCT user_id) FROM {name}").fetchall()[0] for name in "ab"
        ]
        if len({*users[0], *users[1]}) > 1:
            return f"(rows, users) {users[0]} against {users[1]}"
        for column in ("user_index", "length", "epoch_us(last_event_time)", *FEATURES):
            pairs = f"""
                SELECT user_id, x, y
                FROM (SELECT user_id, {column} AS x FROM a)
                FULL JOIN (SELECT user_id, {column} AS y FROM b) USING (user_id)
                WHERE x IS DISTINCT FROM y
            """
            if column in CLOSE:
                pairs += """ AND (len(x) IS DISTINCT FROM len(y) OR len(
                    [1 FOR p IN list_zip(x, y) IF NOT coalesce(abs(p[1] - p[2]) <= 1e-6 * abs(p[2]), false)]) > 0)"""
            if rows := database.execute(f"{pairs} ORDER BY user_id LIMIT 3").fetchall():
                return "\n".join([column, *(f"  {user}: {x}\n  {' ' * len(user)}  {y}" for user, x, y in rows)])
    return None


def record(events: int, costs: dict[str, Measured], checked: bool) -> dict[str, Any]:
    """The JSON object of one size."""
    peers = {name: costs[name] for name in PEERS if name in costs}
    line: dict[str, Any] = {"bench": "sessionize", "events": events}
    if ours := costs.get("ours"):
        line["ours_s"] = round(ours.seconds, 2)
    line["peers_s"] = {name: round(cost.seconds, 2) for name, cost in peers.items()}
    if ours:
        line |= {
            "rss_mb": round(ours.peak_bytes / 2**20),
            "ours_process_s": round(ours.process_seconds, 2),
            "ours_stages_s": dict(ours.stages),
        }
    line["peers_rss_mb"] = {name: round(cost.peak_bytes / 2**20) for name, cost in peers.items()}
    line["cpu_s"] = {name: round(cost.cpu_seconds, 1) for name, cost in costs.items()}
    line["equal"] = checked
    return line


def table(results: dict[int, dict[str, Measured]]) -> Table:
    shown = Table(title="sessionize on two cores", title_justify="left")
    columns = ("events", *CONTESTANTS, "ours with JVM", "ours / lag_cumsum", "ours / duckdb", "ours GiB")
    for column in columns:
        shown.add_column(column, justify="right")
    for events, costs in results.items():
        ours = costs.get("ours")
        seconds = [f"{costs[name].seconds:,.1f} s" if name in costs else "" for name in CONTESTANTS]
        speeds = [
            f"{speed:.2f} x" if (speed := times_as_fast(costs, peer)) else "" for peer in ("lag_cumsum", "duckdb")
        ]
        of_process = [f"{ours.process_seconds:,.1f} s", f"{ours.peak_bytes / 2**30:.2f}"] if ours else ["", ""]
        shown.add_row(f"{events:,}", *seconds, of_process[0], *speeds, of_process[1])
    return shown


def times_as_fast(costs: dict[str, Measured], peer: str) -> float | None:
    """Our events per second over the peer's."""
    return costs[peer].seconds / costs["ours"].seconds if {"ours", peer} <= costs.keys() else None


def verdicts(results: dict[int, dict[str, Measured]]) -> list[tuple[str, bool]]:
    """The targets, judged at the largest size."""
    largest = max(results)
    costs = results[largest]
    lines = []
    for peer, target in (("lag_cumsum", 2.0), ("duckdb", 0.35)):
        if speed := times_as_fast(costs, peer):
            lines.append(verdict(f"speed over {peer}'s at {largest:,} events", speed, target, at_least=True))
    if "ours" not in costs:
        return lines
    smaller = [events for events in results if 10_000_000 <= events < largest]
    if smaller:
        cost = {events: results[events]["ours"].seconds / events for events in (min(smaller), largest)}
        growth = (cost[largest] / cost[min(smaller)] - 1) * 100
        what = f"growth of cost per event from {min(smaller):,} events"
        lines.append(verdict(what, growth, 15, at_least=False, unit=" %"))
    lines.append(verdict("peak memory", costs["ours"].peak_bytes / 2**30, 6, at_least=False, unit=" GiB"))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench sessionize", description=__doc__)
    parser.add_argument("--sizes", default="1,10,50", help="millions of events (default: %(default)s)")
    parser.add_argument("--only", default=",".join(CONTESTANTS), help="of %(default)s")
    parser.add_argument("--json", type=Path, help="one object a line for each size")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a target is missed")
    options = parser.parse_args()
    sizes = sorted(round(float(size) * 1_000_000) for size in options.sizes.split(","))
    contestants = options.only.split(",")
    if unknown := set(contestants) - set(CONTESTANTS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: not among {', '.join(CONTESTANTS)}")
    checked = {"duckdb"} < set(contestants)
    results = {}
    for events in sizes:
        results[events], found = race(events, contestants)
        if found:
            sys.exit(found)
    if options.json:
        lines = (json.dumps(record(events, costs, checked)) + "\n" for events, costs in results.items())
        options.json.write_text("".join(lines), encoding="utf-8")
    console = Console(width=None if Console().is_terminal else 140)
    console.print(table(results))
    print(ABOUT)
    print("sequences: " + ("equal to DuckDB's, of every user" if checked else "not compared"))
    judged = verdicts(results)
    print("\n".join(line for line, _ in judged))
    if options.check and not all(reached for _, reached in judged):
        sys.exit(1)


if __name__ == "__main__":
    main()
