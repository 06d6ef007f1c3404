"""Training by Horovod and petastorm against Keras' fit, steps without a feed, and one rank; run by scripts/bench."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from bench_duckdb import write_sequences
from bench_log import Log
from bench_processes import BENCH, LENGTH, WEIGHTS, Measured, fresh_folder, python, verdict
from bench_training import write_json
from rich.console import Console
from rich.table import Table

from halflife.config import TrainConfig
from halflife.histories import sequences

CONTESTANTS = ("ours", "memory_fed", "one_rank", "keras_fit", "not_ahead")
PEERS = CONTESTANTS[1:]
# A look at the memory takes a core's time, of which two ranks leave none; one in each epoch is enough.
WATCH_SECONDS = 5.0
FILES = 8  # of the table of histories: each shard has its own
ABOUT = """\
seconds of one epoch, graphs compiled before; each contestant takes the same steps with the same examples
ours: 2 Horovod ranks on a core each, fed by petastorm; memory_fed: the same steps, batches made before
not_ahead: as ours, but the next batch is made when a step has ended, not during it
one_rank: 1 rank on one core, fed by petastorm; keras_fit: plain Keras fit on both cores, batches made before"""


def table_of(events: int, users: int, items: int, folder: Path) -> Path:
    """The training table of a generated log, its items, and what a task has to know of it."""
    log = Log(events, users, days=120, items=items)
    files = log.cached(BENCH / "logs")
    (folder / "sequences").mkdir()
    with duckdb.connect(config={"threads": 2}) as database:
        write_sequences(database, files, folder / "sequences", TrainConfig().history_length)
        (known,) = database.execute("SELECT count(*) FROM items").fetchall()[0]
    whole = sequences.read((folder / "sequences").iterdir(), np.empty(0, np.int32), None)
    (folder / "rows").mkdir()
    rows = -(-len(whole) // FILES)
    for place in range(FILES):
        part = sequences.packed(whole.of(slice(place * rows, (place + 1) * rows)))
        pq.write_table(pa.Table.from_batches([part]), folder / "rows" / f"{place}.parquet")
    catalogue = pd.DataFrame({"item_index": range(known), "item_id": [f"i{n}" for n in range(known)]})
    catalogue.assign(category=[f"c{n % 50}" for n in range(known)]).to_parquet(folder / "items.parquet", index=False)
    as_of = datetime.combine(log.last_day + timedelta(days=1), time(), UTC).timestamp()
    about = {"as_of_seconds": as_of, "event_types": list(WEIGHTS), "sequence_length": LENGTH}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def race(folder: Path, users_per_batch: int, rounds: int, contestants: list[str]) -> dict[str, Measured]:
    """The fastest of the rounds of each contestant; they take turns, so that the machine's moods meet all of them.

    Exits where two contestants have not taken the same steps with the same examples to about the same loss.
    """
    best: dict[str, Measured] = {}
    for number in range(rounds):
        for name in contestants if number % 2 == 0 else reversed(contestants):
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            cost = python("bench_train_rank.py", name, folder, users_per_batch, watch_seconds=WATCH_SECONDS)
            if name not in best or cost.seconds < best[name].seconds:
                best[name] = cost
    first, *others = best.values()
    for cost in others:
        same = all(cost.stages[what] == first.stages[what] for what in ("sequences", "steps"))
        if not same or abs(cost.stages["loss"] / first.stages["loss"] - 1) > 0.02:
            sys.exit(f"not the same work: {dict(first.stages)} and {dict(cost.stages)}")
    return best


def record(costs: dict[str, Measured]) -> dict[str, Any]:
    """The JSON object."""
    ours = costs["ours"]
    return {
        "bench": "train",
        "sequences": int(ours.stages["sequences"]),
        "ours_s": round(ours.seconds, 2),
        "rss_mb": round(ours.peak_bytes / 2**20),
        "peers_s": {name: round(costs[name].seconds, 2) for name in PEERS if name in costs},
        "peers_rss_mb": {name: round(costs[name].peak_bytes / 2**20) for name in PEERS if name in costs},
        "cpu_s": {name: round(cost.stages["cpu_seconds"], 2) for name, cost in costs.items()},
    }


def table(costs: dict[str, Measured]) -> Table:
    shown = Table(title="one epoch of training", title_justify="left")
    for column in ("", "seconds", "sequences/s", "seconds / ours", "CPU seconds", "GiB"):
        shown.add_column(column, justify="right")
    for name, cost in costs.items():
        speed, share = cost.stages["sequences"] / cost.seconds, cost.seconds / costs["ours"].seconds
        cpu, memory = f"{cost.stages['cpu_seconds']:.1f}", f"{cost.peak_bytes / 2**30:.2f}"
        shown.add_row(name, f"{cost.seconds:.1f}", f"{speed:,.0f}", f"{share:.2f}", cpu, memory)
    return shown


def verdicts(costs: dict[str, Measured]) -> list[tuple[str, bool]]:
    ours = costs["ours"].seconds
    return [
        verdict("speed over keras_fit's", costs["keras_fit"].seconds / ours, 1.0, at_least=True),
        verdict("what the feed adds", (ours / costs["memory_fed"].seconds - 1) * 100, 10, at_least=False, unit=" %"),
        verdict("speed of two ranks over one", costs["one_rank"].seconds / ours, 1.8, at_least=True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench train", description=__doc__)
    parser.add_argument("--events", type=int, default=1_500_000, help="of the generated log (default: %(default)s)")
    parser.add_argument(
        "--users", type=int, default=2_560, help="(default: %(default)s; as active as Complete Journey's)"
    )
    parser.add_argument("--items", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--users-per-batch", type=int, default=64, help="of all ranks (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="the fastest counts (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for one object")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a target is missed")
    options = parser.parse_args()
    folder = table_of(options.events, options.users, options.items, fresh_folder(BENCH / "train"))
    costs = race(folder, options.users_per_batch, options.rounds, list(CONTESTANTS))
    shutil.rmtree(folder)
    write_json(options.json, [record(costs)])
    Console(width=None if Console().is_terminal else 140).print(table(costs))
    print(ABOUT)
    judged = verdicts(costs)
    print("\n".join(line for line, _ in judged))
    if options.check and not all(reached for _, reached in judged):
        sys.exit(1)


if __name__ == "__main__":
    main()
