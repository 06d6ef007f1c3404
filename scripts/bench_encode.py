"""How the encoder runs at night: our forward pass in NumPy against TensorFlow in the workers; run by scripts/bench."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from bench_processes import BENCH, Measured, fresh_folder, read_once, spark_submit, verdict
from rich.console import Console
from rich.table import Table

from halflife import arrow
from halflife.config import ModelConfig, SessionizeConfig
from halflife.histories import sequences, walk
from halflife.histories.files import Files
from halflife.model import artifact
from halflife.model.architecture import Architecture
from halflife.warehouse import TABLES, Run, Warehouse

PEERS = ("keras_udf", "predict_batch_udf")
CONTESTANTS = ("ours", *PEERS)
ITEMS, EVENT_TYPES, ACTIVE_SHARE, CLOSE = 10_000, 3, 0.02, 1e-5
NIGHTS = (date(2026, 3, 1), date(2026, 3, 2))  # everyone is encoded on the first, the active on the second
SESSIONIZE = SessionizeConfig()
WALKS = 4  # tasks that wrote the active users' sequences: so many files have them
ABOUT = """\
everyone: seconds to read, encode and write all users; active: the same for 2 % of them, in the same JVM
ours: the job's own encoding, NumPy in the workers of an Arrow UDF, which carries over whom it does not encode
keras_udf, predict_batch_udf: the Keras encoder in the workers, compiled, one thread a task"""


def generate(users: int, folder: Path, seed: int = 7) -> None:
    """Two nights of sessionize in a warehouse, with the active users of the second in a file, and a model.

    Users have 1 to L events. The files of their sequences are written as the job writes them.
    """
    rng, store = np.random.default_rng(seed), Warehouse(folder / "warehouse")
    active = rng.choice(users, max(int(users * ACTIVE_SHARE), 1), replace=False).astype(np.int32)
    (folder / "active").mkdir()
    pq.write_table(pa.table({"user_index": active}), folder / "active" / "active.parquet")
    _save_model(folder / "model", SESSIONIZE.sequence_length, rng)
    of_active: list[tuple[int, pa.Table]] = []

    def first(run: Run) -> None:
        run.path("sequences").mkdir()
        with Files({"sequences": str(run.path("sequences"))}) as files:
            for begin in range(0, users, SESSIONIZE.users_per_file):
                bucket = begin // SESSIONIZE.users_per_file
                index = np.arange(begin, min(begin + SESSIONIZE.users_per_file, users), dtype=np.int32)
                rows = _sequences(index, SESSIONIZE.sequence_length, rng)
                files.write("sequences", walk.bucket_part(bucket), rows)
                files.close("sequences", walk.bucket_part(bucket))
                of_active.append((bucket, rows.filter(pa.array(np.isin(index, active)))))
        run.write_rows(walk.ACTIVE, [])

    def second(run: Run) -> None:
        run.keep("sequences", store.files("sequences", NIGHTS[0]))
        run.path(walk.ACTIVE).mkdir()
        with Files({walk.ACTIVE: str(run.path(walk.ACTIVE))}) as files:
            for bucket, rows in of_active:
                files.write(walk.ACTIVE, str(bucket % WALKS), rows)
            files.close_all()

    for night, stage in zip(NIGHTS, (first, second), strict=True):
        opened = store.begin("sessionize", night, {})
        assert opened is not None  # the warehouse is new
        with store.staged(opened) as run:
            stage(run)
            run.write_rows("users", [(user, f"user-{user}") for user in range(users)])
            for table in TABLES["sessionize"]:
                if not run.path(table).exists():
                    run.write_rows(table, [])
            store.publish(run, {"sessionize": SESSIONIZE.model_dump(mode="json")}, {})


def _sequences(index: np.ndarray[Any, Any], length: int, rng: np.random.Generator) -> pa.Table:
    """The sequences of some users, in the columns of the table."""
    users, count = len(index), rng.integers(1, length + 1, len(index)).astype(np.int32)
    valid = np.arange(length) < count[:, None]

    def lists(values: Any, kind: Any) -> pa.Array:
        return arrow.lists(np.where(valid, values, 0).astype(kind))

    shape = (users, length)
    seconds = 1.7e9 + np.cumsum(rng.exponential(86_400, shape), axis=1)
    gaps = np.log1p(rng.exponential(86_400, shape))
    last = seconds[np.arange(users), count - 1]
    made = pa.table(
        {
            "user_index": index,
            "user_id": [f"user-{user}" for user in index],
            "last_event_time": pa.array((last * 1e6).astype(np.int64)).cast(pa.timestamp("us", "UTC")),
            "length": count,
            "item_index": lists(rng.integers(0, ITEMS, shape), np.int32),
            "type_index": lists(rng.integers(0, EVENT_TYPES, shape), np.int32),
            "strength": lists(1.0, np.float32),
            "event_seconds": lists(seconds, np.float64),
            "gap_log": lists(gaps, np.float32),
            "revisit_gap_log": lists(gaps * (rng.random(shape) < 0.3), np.float32),
            "revisit_count": lists(rng.poisson(0.5, shape), np.int32),
            "session_position": lists(rng.integers(0, 20, shape), np.int32),
            "hour": lists(rng.integers(0, 24, shape), np.int32),
            "weekday": lists(rng.integers(0, 7, shape), np.int32),
        }
    )
    return made.select(sequences.SCHEMA.names).cast(sequences.SCHEMA)


def _save_model(folder: Path, length: int, rng: np.random.Generator) -> None:
    """The network of the default config, at its default sizes, with random weights."""
    defaults = ModelConfig()
    architecture = Architecture(
        items=ITEMS,
        event_types=EVENT_TYPES,
        categories=1,
        half_lives_days=defaults.half_lives_days,
        horizon_days=defaults.horizon_days,
        sequence_length=length,
        vector_size=defaults.vector_size,
        encoder_units=defaults.encoder_units,
        jump_units=defaults.jump_units,
        item_traits=defaults.item_traits,
        encoder=defaults.encoder,
    )
    weights = {
        name: (rng.normal(size=shape) * 0.2).astype(np.float32)
        for name, shape in architecture.shapes_for_scoring().items()
    }
    weights["half_lives_days"] = np.array(architecture.half_lives_days, dtype=np.float32)
    items = pd.DataFrame({"item_index": np.arange(ITEMS), "item_id": [str(n) for n in range(ITEMS)], "category": None})
    artifact.save(
        folder,
        architecture=architecture,
        weights=weights,
        items=items,
        event_types=[f"type{n}" for n in range(EVENT_TYPES)],
        as_of_seconds=1.8e9,
        metrics={},
        config={},
    )


def largest_difference(these: Path, those: Path) -> float:
    """Between two tables of read-outs, over all users."""
    a, b = (
        pq.read_table(folder).sort_by("user_index").column("readouts").combine_chunks() for folder in (these, those)
    )
    return float(np.abs(a.flatten().to_numpy() - b.flatten().to_numpy()).max())


def race(users: int, contestants: list[str]) -> dict[str, Measured]:
    """What each contestant cost. Raises SystemExit where two of them do not read out the same."""
    work = fresh_folder(BENCH / "encode")
    generate(users, work)
    costs = {}
    for name in contestants:
        print(f"{users:,} users: {name}", file=sys.stderr)
        read_once(work / "warehouse" / "_runs")
        costs[name] = spark_submit("bench_encode_job.py", name, work, work / name, events=users)
    first, *others = contestants  # ours comes first
    ours = Warehouse(work / "warehouse").path("user_states", NIGHTS[0])
    for name in others:
        if (difference := largest_difference(ours, work / name / "everyone")) > CLOSE:
            sys.exit(f"read-outs of {name} differ from those of {first} by {difference:.2g}")
    shutil.rmtree(work)
    return costs


def record(users: int, costs: dict[str, Measured]) -> dict[str, Any]:
    ours = costs["ours"]
    return {
        "bench": "encode",
        "users": users,
        "ours_s": round(ours.seconds, 2),
        "ours_active_s": round(ours.later[0], 2),
        "rss_mb": round(ours.peak_bytes / 2**20),
        "peers_s": {name: round(costs[name].seconds, 2) for name in PEERS if name in costs},
        "peers_active_s": {name: round(costs[name].later[0], 2) for name in PEERS if name in costs},
    }


def table(users: int, costs: dict[str, Measured]) -> Table:
    shown = Table("way", title=f"encoding {users:,} users on two cores", title_justify="left")
    for column in ("everyone", "users/s", "2 % active", "active / everyone", "GiB"):
        shown.add_column(column, justify="right")
    for name, cost in costs.items():
        everyone, active = cost.seconds, cost.later[0]
        cells = (f"{everyone:,.1f} s", f"{users / everyone:,.0f}", f"{active:,.1f} s", f"1/{everyone / active:.0f}")
        shown.add_row(name, *cells, f"{cost.peak_bytes / 2**30:.2f}")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench encode", description=__doc__)
    parser.add_argument("--users", type=int, default=500_000, help="(default: %(default)s)")
    parser.add_argument("--only", default=",".join(CONTESTANTS), help="of %(default)s; ours is always among them")
    parser.add_argument("--json", type=Path, help="one object on a line")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a target is missed")
    options = parser.parse_args()
    contestants = [name for name in CONTESTANTS if name == "ours" or name in options.only.split(",")]
    if unknown := set(options.only.split(",")) - set(CONTESTANTS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: not among {', '.join(CONTESTANTS)}")
    costs = race(options.users, contestants)
    if options.json:
        options.json.write_text(json.dumps(record(options.users, costs)) + "\n", encoding="utf-8")
    Console(width=None if Console().is_terminal else 140).print(table(options.users, costs))
    print(ABOUT)
    ours = costs["ours"]
    judged = [verdict("everyone over 2 % active", ours.seconds / ours.later[0], 20, at_least=True, unit="x")]
    judged += [
        verdict(f"speed over {name}'s", costs[name].seconds / ours.seconds, 1.0, at_least=True, unit="x")
        for name in PEERS
        if name in costs
    ]
    print("\n".join(line for line, _ in judged))
    if options.check and not all(reached for _, reached in judged):
        sys.exit(1)


if __name__ == "__main__":
    main()
