"""Sequences of the users that a night encodes, read by the tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql.pandas.types import to_arrow_schema

from halflife import schemas
from halflife.scoring import encode

USERS, LENGTH = 12, 3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Every other user has a sequence; four users a row group."""
    index = np.arange(0, 2 * USERS, 2)
    columns = {
        field.name: [[user] * LENGTH for user in index] if pa.types.is_list(field.type) else index
        for field in to_arrow_schema(schemas.SEQUENCES)
    }
    columns |= {
        "user_id": [f"u{user}" for user in index],
        "last_event_time": pa.array(index, pa.timestamp("us", "UTC")),
    }
    table = pa.table({name: pa.array(columns[name]) for name in schemas.SEQUENCES.names})
    pq.write_table(table.cast(to_arrow_schema(schemas.SEQUENCES)), tmp_path / "sequences.parquet", row_group_size=4)
    return tmp_path / "sequences.parquet"


@pytest.mark.parametrize("asked", [[0, 2, 22], [1, 3, 99], [], [4, 5, 6, 14]])
def test_the_rows_of_the_users_that_are_asked_for_are_read(file: Path, asked: list[int]) -> None:
    batches = list(encode.read_users(np.array(asked, dtype=np.int32), encode.Sequences([], {0: file}, 100)))
    found = pa.Table.from_batches(batches, to_arrow_schema(encode.INPUTS))
    expected = [user for user in asked if user % 2 == 0 and user < 2 * USERS]
    assert found["user_index"].to_pylist() == expected
    assert found["hour"].to_pylist() == [[user] * LENGTH for user in expected]
    assert "user_id" not in found.column_names


def test_files_of_everyone_are_looked_into_for_those_alone_whom_those_of_the_active_do_not_have(
    file: Path, tmp_path: Path
) -> None:
    active = pq.read_table(file).take([1, 5])  # users 2 and 10, with another length
    active = active.set_column(active.schema.get_field_index("length"), "length", pa.array([7, 7], pa.int32()))
    pq.write_table(active, tmp_path / "active.parquet")
    sequences = encode.Sequences([tmp_path / "active.parquet"], {0: tmp_path / "not there", 1: file}, users_per_file=3)
    found = pa.Table.from_batches(encode.read_users(np.array([2, 4, 10, 99]), sequences))
    assert found.select(["user_index", "length"]).to_pydict() == {"user_index": [2, 10, 4], "length": [7, 7, 4]}
