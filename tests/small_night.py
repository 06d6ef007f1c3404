"""A run of the smallest job, staged by hand: a table of one column, and a file that is none."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from halflife.warehouse import Run, Warehouse

NIGHT = date(2026, 1, 2)


def begun(store: Warehouse, inputs: str, night: date = NIGHT) -> Run:
    """A run that has staged all but its table."""
    run = store.begin("evaluate", night, {"inputs": inputs})
    assert run is not None
    run.path("evaluation").mkdir()
    (run.path("evaluation") / "metrics.json").write_text("[]")
    return run


def staged(store: Warehouse, inputs: str, value: int, night: date = NIGHT) -> Run:
    """A run whose table has one row."""
    run = begun(store, inputs, night)
    run.path("metrics").mkdir()
    pq.write_table(pa.table({"value": [value]}), run.path("metrics") / "part-0.parquet")
    return run
