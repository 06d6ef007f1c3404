"""Files of bands of users: which are written, what is in them, and that equal rows are equal files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halflife.digests import digest_of_file
from halflife.scoring import bands

SCHEMA = pa.schema([pa.field("user_index", pa.int32(), False), pa.field("value", pa.float64(), False)])


def changes(users: list[int]) -> pa.Table:
    """Rows of users, as Spark brings them."""
    index = np.sort(np.array(users, dtype=np.int32))
    return pa.table({"user_index": index, "value": np.arange(len(index), dtype=np.float64), "band": index // 4})


def merged(rows: pa.Table, old: pa.Table | None) -> pa.Table:
    """All of both, by user."""
    rows = rows.cast(SCHEMA)
    return rows if old is None else pa.concat_tables([old.cast(SCHEMA), rows]).sort_by("user_index")


def write(table: pa.Table, folder: Path, batch: int = 1_000, old: dict[int, Path] | None = None) -> dict[int, Path]:
    """The files that were written, by band."""
    folder.mkdir()
    three_rows = bands.ROW_GROUP_BYTES // 3 - 12
    laid = bands.Bands(users=4, old=old or {}, folder=folder, schema=SCHEMA, lists_bytes=three_rows)
    listing = bands.written(table.to_batches(batch), laid, merged)
    return {row["band"]: folder / row["file"] for part in listing for row in part.to_pylist()}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 70), st.integers(1, 20))
def test_equal_rows_are_equal_files_however_they_come(
    tmp_path_factory: pytest.TempPathFactory, users: list[int], batch: int, chunk: int
) -> None:
    table = changes(users)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "CHUNK_ROWS", chunk)
        cut = write(table, tmp_path_factory.mktemp("cut") / "files", batch)
    whole = write(table, tmp_path_factory.mktemp("whole") / "files")
    assert cut.keys() == {user // 4 for user in users}
    assert {band: digest_of_file(path) for band, path in cut.items()} == {
        band: digest_of_file(path) for band, path in whole.items()
    }
    assert pa.concat_tables([pq.read_table(cut[band]) for band in sorted(cut)]) == table.select(SCHEMA.names).cast(
        SCHEMA
    )


def test_a_change_gets_no_user_in_two_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "CHUNK_ROWS", 2)
    seen: list[int] = []

    def noted(rows: pa.Table, _: pa.Table | None) -> pa.Table:
        seen.extend(set(rows["user_index"].to_pylist()))
        return rows.cast(SCHEMA)

    laid = bands.Bands(4, {}, tmp_path, SCHEMA, 16)
    list(bands.written(changes([0, 0, 0, 1, 1, 2, 5, 5, 5]).to_batches(2), laid, noted))
    assert sorted(seen) == [0, 1, 2, 5]


def test_an_old_file_is_merged_and_only_changed_bands_are_written(tmp_path: Path) -> None:
    first = write(changes([0, 5, 9]), tmp_path / "first")
    second = write(changes([6]), tmp_path / "second", old=first)
    assert list(second) == [1]
    assert pq.read_table(second[1])["user_index"].to_pylist() == [5, 6]


def test_the_changes_that_have_the_counted_column_are_counted_band_by_band(tmp_path: Path) -> None:
    rows = (
        changes([0, 1, 5, 6, 7]).drop_columns(["value"]).append_column("value", pa.array([None, 1.0, None, 2.0, 3.0]))
    )
    old = write(changes([6]), tmp_path / "old")
    laid = bands.Bands(4, old, tmp_path, SCHEMA, 16, counted="value")

    def known(rows: pa.Table, _: pa.Table | None) -> pa.Table:
        return rows.filter(pc.is_valid(rows["value"])).select(SCHEMA.names).cast(SCHEMA)

    listing = [row for part in bands.written(rows.to_batches(2), laid, known) for row in part.to_pylist()]
    assert {row["band"]: row["counted"] for row in listing} == {0: 1, 1: 2}


def test_a_row_group_is_as_large_as_its_lists_and_single_columns_make_it(tmp_path: Path) -> None:
    schema = SCHEMA.append(pa.field("list", pa.list_(pa.float64())))
    laid = bands.Bands(4, {}, tmp_path, schema, lists_bytes=20)
    assert laid.rows_per_group == bands.ROW_GROUP_BYTES // (4 + 8 + 20)


def test_a_reader_finds_users_by_the_statistics_of_row_groups(tmp_path: Path) -> None:
    (file,) = write(changes([0, 0, 1, 1, 2, 3, 3]), tmp_path / "files").values()
    described = pq.read_metadata(file)
    ranges = [described.row_group(group).column(0).statistics for group in range(described.num_row_groups)]
    assert [(found.min, found.max) for found in ranges] == [(0, 1), (1, 3), (3, 3)]
