"""The score of every pair against the obvious ways and the machine's limit; run by scripts/bench, which see."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_processes import BENCH, Measured, fresh_folder, python, read_once, spark_submit, verdict
from bench_states import ITEMS, States
from rich.console import Console
from rich.table import Table

PEERS = {"keras_udf": 10_000_000, "als": 100_000_000}  # pairs that each is run on, scaled to the same number
TARGETS_AT = 1_000_000_000
ABOUT = """\
seconds: from the answer to a trivial query to the end, start of the process and the JVM left out
ours: states read, all pairs scored, ids, parts and recommendations with reasons written, audited, digested, published
limit: one matrix product and pyarrow's writing of the same rows, measured on one core, halved
memory: the most of all processes of ours at once, shared pages counted once"""


@dataclass(frozen=True)
class Size:
    """What a size cost: ours, one core's limit, and fetching one user."""

    ours: Measured
    limit_seconds: float
    fetched: dict[str, float]

    def bytes_per_pair(self, pairs: int) -> float:
        return self.ours.stages["bytes of scores"] / pairs


def race(pairs: int) -> Size:
    """Score so many pairs; nothing is left on the disk."""
    work = fresh_folder(BENCH / "score")
    states = _states(pairs, work)
    print(f"{pairs:,} pairs: ours", file=sys.stderr)
    ours = spark_submit("bench_score_job.py", states.users, states.folder, events=8 * 500_000)
    limit = python("bench_score_peers.py", "limit", states.users, states.folder, work / "limit")
    fetched = spark_submit("bench_score_fetch.py", states.users, states.folder, events=0)
    shutil.rmtree(work)
    return Size(ours, limit.seconds, dict(fetched.stages))


def peers(names: list[str]) -> dict[str, float]:
    """Seconds a pair of the peers, each on a size that it can finish."""
    seconds = {}
    for name in names:
        work = fresh_folder(BENCH / "score")
        states = _states(PEERS[name], work)
        print(f"{PEERS[name]:,} pairs: {name}", file=sys.stderr)
        cost = spark_submit("bench_score_peers.py", name, states.users, states.folder, work / name, events=0)
        seconds[name] = cost.seconds / PEERS[name]
        shutil.rmtree(work)
    return seconds


def _states(pairs: int, work: Path) -> States:
    states = States(pairs // ITEMS, work / "states")
    print(f"{pairs:,} pairs: states of {states.users:,} users", file=sys.stderr)
    states.write()
    for folder in states.tables().values():
        read_once(folder)
    return states


def record(pairs: int, size: Size, per_pair: dict[str, float]) -> dict[str, Any]:
    """The JSON object of one size."""
    scaled = {name: round(seconds * pairs, 2) for name, seconds in per_pair.items()}
    return {
        "bench": "score",
        "pairs": pairs,
        "ours_s": round(size.ours.seconds, 2),
        "rss_mb": round(size.ours.peak_bytes / 2**20),
        "bytes_per_pair": round(size.bytes_per_pair(pairs), 3),
        "peers_s": {**scaled, "limit": round(size.limit_seconds, 2)},
        "ours_process_s": round(size.ours.process_seconds, 2),
        "ours_cpu_s": round(size.ours.cpu_seconds, 1),
        "ours_stages": dict(size.ours.stages),
        "fetch_one_user": size.fetched,
    }


def table(results: dict[int, Size], per_pair: dict[str, float]) -> Table:
    shown = Table(title="score on two cores", title_justify="left")
    for column in (
        "pairs",
        "ours",
        "million pairs/s",
        "bytes/pair",
        *per_pair,
        "limit",
        "GiB",
        "one user: DuckDB, Spark",
    ):
        shown.add_column(column, justify="right")
    for pairs, size in results.items():
        fetched = size.fetched
        scores = size.ours.stages["bytes of scores"]
        fetches = (
            f"{fetched[f'{name} seconds']:.2f} s {fetched[f'{name} bytes'] / scores:.2%}"
            for name in ("duckdb", "spark")
        )
        shown.add_row(
            f"{pairs:,}",
            f"{size.ours.seconds:,.1f} s",
            f"{pairs / size.ours.seconds / 1e6:.1f}",
            f"{size.bytes_per_pair(pairs):.2f}",
            *(f"{seconds * pairs:,.0f} s" for seconds in per_pair.values()),
            f"{size.limit_seconds:,.1f} s",
            f"{size.ours.peak_bytes / 2**30:.2f}",
            ", ".join(fetches),
        )
    return shown


def verdicts(results: dict[int, Size], per_pair: dict[str, float]) -> list[tuple[str, bool]]:
    """The targets: at 10^9 pairs, or at the largest size that was run."""
    judged = TARGETS_AT if TARGETS_AT in results else max(results)
    size = results[judged]
    at = f"at {judged:,} pairs"
    lines = [verdict(f"million pairs a second {at}", judged / size.ours.seconds / 1e6, 20, at_least=True)]
    for name, target in (("keras_udf", 20), ("als", 3)):
        if name in per_pair:
            speed = per_pair[name] * judged / size.ours.seconds
            lines.append(verdict(f"speed over {name}'s {at}", speed, target, at_least=True))
    lines.append(verdict(f"share of the limit {at}", size.limit_seconds / size.ours.seconds, 0.5, at_least=True))
    most = max(size.bytes_per_pair(pairs) for pairs, size in results.items())
    lines.append(verdict("bytes a pair, at most", most, 4.5, at_least=False))
    peak = max(size.ours.peak_bytes for size in results.values()) / 2**30
    lines.append(verdict("peak memory at any size", peak, 6, at_least=False, unit=" GiB"))
    least, largest = min(results), max(results)
    if least < largest:
        cost = {pairs: results[pairs].ours.seconds / pairs for pairs in (least, largest)}
        growth = (cost[largest] / cost[least] - 1) * 100
        lines.append(verdict(f"growth of time a pair from {least:,} to {largest:,}", growth, 10, False, unit=" %"))
    share = max(results[largest].fetched[f"{name} bytes"] for name in ("duckdb", "spark"))
    share *= 100 / results[largest].ours.stages["bytes of scores"]
    lines.append(verdict(f"bytes read for one user {f'of {largest // ITEMS:,}'}", share, 1, at_least=False, unit=" %"))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench score", description=__doc__)
    parser.add_argument("--sizes", default="1e8,1e9,2e9", help="pairs (default: %(default)s)")
    parser.add_argument("--only", default=",".join(PEERS), help="peers, of %(default)s; empty: none")
    parser.add_argument("--json", type=Path, help="one object a line for each size")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a target is missed")
    options = parser.parse_args()
    chosen = [name for name in options.only.split(",") if name]
    if unknown := set(chosen) - set(PEERS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: not among {', '.join(PEERS)}")
    sizes = sorted(round(float(size)) for size in options.sizes.split(","))
    results = {pairs: race(pairs) for pairs in sizes}
    per_pair = peers(chosen)
    if options.json:
        lines = (json.dumps(record(pairs, size, per_pair)) + "\n" for pairs, size in results.items())
        options.json.write_text("".join(lines), encoding="utf-8")
    Console(width=None if Console().is_terminal else 140).print(table(results, per_pair))
    print(ABOUT)
    judged = verdicts(results, per_pair)
    print("\n".join(line for line, _ in judged))
    if options.check and not all(reached for _, reached in judged):
        sys.exit(1)


if __name__ == "__main__":
    main()
