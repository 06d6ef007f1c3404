"""The rows of single users among many files: how many files are opened, and what is found where nothing is told."""

from __future__ import annotations

import resource
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halflife.answers.rows import UserRows
from halflife.errors import InputMissingError

SIZE = 4
BANDS = 120


def write(folder: Path, name: str, users: list[int], statistics: bool = True) -> Path:
    """A file with two rows of each user."""
    index = pa.array(sorted(2 * users), pa.int32())
    pq.write_table(pa.table({"user_index": index, "value": index}), folder / name, write_statistics=statistics)
    return folder / name


def banded(folder: Path, bands: int = BANDS) -> Path:
    for band in range(bands):
        write(folder, f"{band:06}-{uuid.uuid4().hex}.parquet", list(range(band * SIZE, (band + 1) * SIZE)))
    return folder


@pytest.fixture
def few_files() -> Iterator[None]:
    """A process that may open fewer files than there are bands."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    already = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (already + 100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_more_bands_than_a_process_may_open_files_are_read(tmp_path: Path) -> None:
    rows = UserRows(banded(tmp_path), ["value"], SIZE)
    everyone = list(range(BANDS * SIZE))
    assert [rows.read(user, user)["value"].to_pylist() for user in everyone] == [[user, user] for user in everyone]
    assert rows.read(0, len(everyone) - 1)["value"].to_pylist() == sorted(2 * everyone)


def test_only_the_files_of_the_bands_are_opened(tmp_path: Path) -> None:
    banded(tmp_path, 4)
    rows = UserRows(tmp_path, ["value"], SIZE)
    for path in (*tmp_path.glob("000000-*"), *tmp_path.glob("000003-*")):
        path.unlink()
    assert rows.read(5, 9)["user_index"].to_pylist() == sorted(2 * [5, 6, 7, 8, 9])
    assert rows.read(400, 400).to_pydict() == {"user_index": [], "value": []}
    with pytest.raises(InputMissingError, match="open it again"):
        rows.read(0, 0)


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_file_whose_band_is_not_known_may_hold_anyone(tmp_path: Path, size: int | None) -> None:
    banded(tmp_path, 2)
    write(tmp_path, "part-00000-old.parquet", [1_000])
    rows = UserRows(tmp_path, ["value"], size)
    assert rows.read(1_000, 1_000)["value"].to_pylist() == [1_000, 1_000]
    assert rows.read(5, 5)["value"].to_pylist() == [5, 5]


def test_users_are_found_in_a_file_without_statistics(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", [1, 2, 3], statistics=False)
    rows = UserRows(tmp_path, ["value"])
    assert rows.read(2, 2)["value"].to_pylist() == [2, 2]
    assert rows.read(7, 7).num_rows == 0
