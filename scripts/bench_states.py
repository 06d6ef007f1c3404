"""A made-up night for the benchmark of scores: users with states and memory, items, and a model to score them by.

As published: `sessionize` with users and items, `train` with a model; and, to be linked into a run of score, the tables
user_states and memory. Seeded; one file of each for every 10,000 users.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import arrow
from halflife.model import artifact
from halflife.model.architecture import Architecture
from halflife.warehouse import TABLES, Run, Warehouse, schema_of

AS_OF = date(2026, 3, 1)
NIGHT_MICROS = int(pd.Timestamp(AS_OF).value // 1_000)
DAY_MICROS = 86_400_000_000
ITEMS, SIZE, PAIRS_PER_USER = 10_000, 64, 50
HALF_LIVES_DAYS = (1 / 24, 1.0, 7.0, 30.0, 180.0)
TYPES = ("view", "click", "cart", "purchase")
CATEGORIES = 100
EVENTS_A_WEEK = 2e-3  # of a pair, as the geometric mean; a tenth of the items has ten times as much
USERS_PER_FILE = 10_000
SEED = 5


@dataclass(frozen=True)
class States:
    """So many users' states under a folder, written once."""

    users: int
    folder: Path

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse"

    def tables(self) -> dict[str, Path]:
        return {table: self.folder / table for table in ("user_states", "memory")}

    def write(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self.tables().values():
            folder.mkdir(parents=True)
        random = np.random.default_rng(SEED)
        for begin in range(0, self.users, USERS_PER_FILE):
            users = np.arange(begin, min(begin + USERS_PER_FILE, self.users), dtype=np.int32)
            for table, rows in (("user_states", _states(users, random)), ("memory", _memory(users, random))):
                schema = to_arrow_schema(schema_of(table))
                arrays = [rows[field.name].cast(field.type) for field in schema]
                made = pa.Table.from_arrays(arrays, schema=schema)
                pq.write_table(made, self.tables()[table] / f"{begin:09}.parquet", compression="zstd")
        self._publish()

    def _publish(self) -> None:
        store, random = Warehouse(self.warehouse), np.random.default_rng(SEED + 1)
        index = np.arange(ITEMS)
        items = pd.DataFrame({"item_index": index, "item_id": [f"item-{item:05}" for item in index]})
        items["category_index"] = index % CATEGORIES
        items["category"] = [f"category {item % CATEGORIES}" for item in index]

        def history(run: Run) -> None:
            for table in TABLES["sessionize"]:
                if table not in ("users", "items"):
                    run.write_rows(table, [])
            run.write_rows("users", [(user, f"user-{user:07}") for user in range(self.users)])
            columns = [items[name].tolist() for name in ("item_index", "item_id", "category", "category_index")]
            rows = zip(*columns, strict=True)
            run.write_rows("items", [(item, name, None, *category, None, None) for item, name, *category in rows])

        def model(run: Run) -> None:
            architecture = Architecture(
                items=ITEMS,
                event_types=len(TYPES),
                categories=CATEGORIES + 1,
                half_lives_days=HALF_LIVES_DAYS,
                horizon_days=7.0,
                sequence_length=50,
                vector_size=SIZE,
                encoder_units=(64, 32),
                jump_units=32,
                item_traits=4,
            )
            weights = {
                name: random.normal(0, 0.25, shape).astype(np.float32)
                for name, shape in architecture.shapes_for_scoring().items()
            }
            weights["half_lives_days"] = np.array(HALF_LIVES_DAYS, dtype=np.float32)
            weights["items/bias"] = (np.log(EVENTS_A_WEEK / 7) + random.normal(-1, 1.2, ITEMS + 1)).astype(np.float32)
            artifact.save(
                run.path("models"),
                architecture=architecture,
                weights=weights,
                items=items,
                event_types=TYPES,
                as_of_seconds=NIGHT_MICROS / 1e6,
                metrics={},
                config={},
            )

        for job, stage in (("sessionize", history), ("train", model)):
            _published(store, job, stage)


def _published(store: Warehouse, job: str, stage: Callable[[Run], None]) -> None:
    opened = store.begin(job, AS_OF, {})
    assert opened is not None  # the warehouse is new
    with store.staged(opened) as run:
        stage(run)
        store.publish(run, {}, {})


def _states(users: np.ndarray[Any, Any], random: np.random.Generator) -> dict[str, pa.Array]:
    readouts = random.normal(0, 0.15, (len(users), len(HALF_LIVES_DAYS) * SIZE)).astype(np.float32)
    last = NIGHT_MICROS - (random.exponential(20, len(users)) * DAY_MICROS).astype(np.int64)
    return {"user_index": pa.array(users), "anchor_time": pa.array(last), "readouts": arrow.lists(readouts)}


def _memory(users: np.ndarray[Any, Any], random: np.random.Generator) -> dict[str, pa.Array]:
    rows, channels = len(users) * PAIRS_PER_USER, len(HALF_LIVES_DAYS)
    # One item of each of so many equal ranges: different ones, in order.
    wide = ITEMS // PAIRS_PER_USER
    items = np.tile(np.arange(PAIRS_PER_USER) * wide, len(users)) + random.integers(0, wide, rows)
    time = NIGHT_MICROS - (random.exponential(60, rows) * DAY_MICROS).astype(np.int64)
    jump = random.exponential(0.05, (rows, channels)).astype(np.float32).astype(np.float64)
    return {
        "user_index": pa.array(np.repeat(users, PAIRS_PER_USER)),
        "item_index": pa.array(items.astype(np.int32)),
        "anchor_time": pa.array(time),
        "positive": arrow.lists(jump),
        "negative": arrow.lists(np.zeros_like(jump)),
        "event_count": pa.array(random.geometric(0.6, rows)),
        "revived": pa.array(np.zeros(rows, dtype=bool)),
        "leading_time": pa.array(time),
        "leading_type": pa.array(random.integers(0, len(TYPES), rows).astype(np.int32)),
        "leading": arrow.lists(jump),
        "faded_on": pa.nulls(rows, pa.date32()),
    }
