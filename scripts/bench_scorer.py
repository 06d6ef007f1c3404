"""What one answer of halflife.Scorer costs, a user's scores of all items; run by scripts/bench, which see."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from bench_processes import BENCH, fresh_folder, verdict

from halflife import arrow
from halflife.answers.scorer import Scorer
from halflife.model import artifact
from halflife.model.architecture import Architecture
from halflife.nights import instant
from halflife.warehouse import ROW_GROUP_BYTES, TABLES, Run, Warehouse

NIGHT = date(2026, 3, 1)
HALF_LIVES_DAYS = (1 / 24, 1.0, 7.0, 30.0, 180.0)
FILES = 8  # of each table, users by hash: what Spark writes with conf/spark-defaults.conf
TARGET_MS = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench scorer", description=__doc__)
    parser.add_argument("--users", type=int, default=200_000, help="(default: %(default)s)")
    parser.add_argument("--items", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--vector-size", type=int, default=64, help="(default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=50, help="of a user with a memory (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=2_000, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for one object")
    parser.add_argument("--check", action="store_true", help="exit code 1 where the target is missed")
    options = parser.parse_args()
    root = fresh_folder(BENCH / "scorer")
    print(f"states of {options.users:,} users, {options.users * options.pairs:,} pairs", file=sys.stderr)
    generate(Warehouse(root), options.users, options.items, options.vector_size, options.pairs)
    result = {"bench": "scorer", "users": options.users, "items": options.items, **measure(root, options)}
    shutil.rmtree(root)
    print(f"opened, with the first answer: {result['open_s']} s; {result['rss_mb']} MiB in memory")
    for what in ("all", "named"):
        shown = ", ".join(f"{name} {result[f'{what}_{name}_ms']} ms" for name in ("median", "p99", "max"))
        print(f"{options.queries:,} users at random, {what} items: {shown}")
    line, reached = verdict("p99 of named items, ms", float(result["named_p99_ms"]), TARGET_MS, at_least=False)
    print(line)
    if options.json:
        options.json.write_text(json.dumps(result) + "\n", encoding="utf-8")
    if options.check and not reached:
        sys.exit(1)


def measure(root: Path, options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of answers for random users at random instants within a week: all items, or all of them by name."""
    chance = np.random.default_rng(1)
    begin = time.perf_counter()
    scorer = Scorer(root)
    scorer.score("user-0")
    opened = time.perf_counter() - begin
    names = [f"item-{item}" for item in chance.permutation(options.items)]
    result = {"open_s": round(opened, 2)}
    for what, items in (("all", None), ("named", names)):
        taken = []
        for user in chance.integers(options.users, size=options.queries):
            at = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=float(chance.uniform(0, 7 * 86_400)))
            begin = time.perf_counter()
            scorer.score(f"user-{user}", items, at)
            taken.append((time.perf_counter() - begin) * 1_000)
        figures = {"median": np.median(taken), "p99": np.percentile(taken, 99), "max": np.max(taken)}
        result |= {f"{what}_{name}_ms": round(float(value), 2) for name, value in figures.items()}
    return result | {"rss_mb": round(psutil.Process().memory_info().rss / 2**20)}


def generate(store: Warehouse, users: int, items: int, vector_size: int, pairs: int) -> None:
    """Publish a night: a model of random weights, and for every user read-outs and a memory."""
    chance = np.random.default_rng(0)
    names = pd.DataFrame({"item_index": range(items), "item_id": [f"item-{item}" for item in range(items)]})
    ids = begin(store, "sessionize")
    ids.write_rows("users", [(user, f"user-{user}") for user in range(users)])
    ids.write_rows("items", [(*row, None, None, None, None, None) for row in names.itertuples(index=False, name=None)])
    publish(store, ids, {})
    model, architecture = begin(store, "train"), architecture_of(items, vector_size)
    shapes = architecture.shapes_for_scoring()
    weights = {name: chance.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    manifest = artifact.save(
        model.path("models"),
        architecture=architecture,
        weights={**weights, "half_lives_days": np.array(HALF_LIVES_DAYS, dtype=np.float32)},
        items=names.assign(category=None),
        event_types=["purchase"],
        as_of_seconds=instant(NIGHT).timestamp(),
        metrics={},
        config={},
    )
    publish(store, model, {"version": manifest.version})
    night = begin(store, "score")
    for file in range(FILES):
        write_states(night, np.arange(file, users, FILES), items, vector_size, pairs, file)
    figures = {"half_lives_days": HALF_LIVES_DAYS, "horizon_days": 7.0}
    publish(store, night, {"model": manifest.version, "model_kind": manifest.kind, **figures})


def architecture_of(items: int, vector_size: int) -> Architecture:
    return Architecture(
        items=items,
        event_types=1,
        categories=1,
        half_lives_days=HALF_LIVES_DAYS,
        horizon_days=7.0,
        sequence_length=50,
        vector_size=vector_size,
        encoder_units=(64, 32),
        jump_units=32,
        item_traits=8,
    )


def write_states(night: Run, users: np.ndarray, items: int, vector_size: int, pairs: int, file: int) -> None:
    """One file of each of the two tables, in row groups of the size that the score job writes."""
    chance = np.random.default_rng(file)
    channels, now = len(HALF_LIVES_DAYS), int(instant(NIGHT).timestamp() * 1e6)

    def ago(count: int) -> pa.Array:
        micros = now - (chance.exponential(30, count) * 86_400e6).astype(np.int64)
        return pa.array(micros, pa.timestamp("us", "UTC"))

    readouts = chance.normal(0, 0.1, (len(users), channels * vector_size)).astype(np.float32)
    states = {"user_index": users.astype(np.int32), "anchor_time": ago(len(users)), "readouts": arrow.lists(readouts)}
    count = len(users) * pairs
    memory = {
        "user_index": np.repeat(users, pairs).astype(np.int32),
        "item_index": chance.integers(items, size=count).astype(np.int32),
        "anchor_time": ago(count),
        "positive": arrow.lists(chance.exponential(0.01, (count, channels))),
        "negative": arrow.lists(np.zeros((count, channels))),
        "event_count": np.ones(count, dtype=np.int64),
        "revived": np.zeros(count, dtype=np.bool_),
    }
    for table, columns in {"user_states": states, "memory": memory}.items():
        rows = pa.table(columns)
        night.path(table).mkdir(exist_ok=True)
        group = max(1, ROW_GROUP_BYTES * rows.num_rows // rows.nbytes)
        pq.write_table(rows, night.path(table) / f"part-{file}.parquet", row_group_size=group, compression="zstd")


def begin(store: Warehouse, job: str) -> Run:
    run = store.begin(job, NIGHT, {})
    assert run is not None
    return run


def publish(store: Warehouse, run: Run, figures: dict[str, object]) -> None:
    """Publish a run: tables that it has not written are empty."""
    for table in TABLES[run.job]:
        if not run.path(table).exists():
            run.write_rows(table, [])
    store.publish(run, {}, figures)


if __name__ == "__main__":
    main()
