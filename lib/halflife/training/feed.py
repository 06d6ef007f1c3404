"""The training table through petastorm: disjoint row groups a shard, in an order of the seed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from petastorm import make_batch_reader

from halflife.errors import InputMissingError
from halflife.training.examples import COLUMNS, History, history_of

# petastorm keeps its own schemas as pickles in the metadata of a data set, and reading one would run what it holds. For
# metadata pyarrow takes every file of such a name: _common_metadata, _metadata, x_common_metadata, in subfolders too.
PICKLED_METADATA: Final = "*_metadata"
LET_BEGIN_SECONDS: Final = 0.001
READ: Final = ("user_index", *COLUMNS)


def check_folder(folder: Path) -> None:
    """Refuse a folder without Parquet files, and one with petastorm's pickled metadata."""
    if found := next(folder.rglob(PICKLED_METADATA), None):
        raise InputMissingError(f"{found}: may hold petastorm's pickled schema; remove it: plain Parquet needs none")
    if not any(folder.glob("*.parquet")):
        raise InputMissingError(f"{folder}: no Parquet files")


def users_of(folder: Path) -> int:
    """Users in the table."""
    return sum(footer.num_rows for footer in _footers(folder))


def shards_with_rows(folder: Path, shards: int) -> int:
    """How many of the shards can hold rows: one a row group at most."""
    groups: int = sum(footer.num_row_groups for footer in _footers(folder))
    return min(shards, groups)


def _footers(folder: Path) -> Iterator[Any]:
    """What each file of the table says of itself."""
    return map(pq.read_metadata, folder.glob("*.parquet"))


def histories(
    folder: Path, *, before_seconds: float, shard: int, shards: int, seed: int, shuffle_rows: int
) -> Iterator[History]:
    """This shard's users once each, row groups in the order of `seed` and rows shuffled `shuffle_rows` at a time.

    The row groups of a shard are the same whatever the seed, and no two shards share one.
    """
    rng = np.random.default_rng([seed, shard])
    buffer: list[History] = []
    for rows in _row_groups(folder, shard, shards, seed):
        for row in zip(*(getattr(rows, name) for name in READ), strict=True):
            buffer.append(history_of(dict(zip(READ, row, strict=True)), before_seconds))
            if len(buffer) == shuffle_rows:
                yield from _shuffled(buffer, rng)
                buffer = []
    yield from _shuffled(buffer, rng)


def _row_groups(folder: Path, shard: int, shards: int, seed: int) -> Iterator[Any]:
    """Row groups of a shard as named tuples of columns; none for the shards that come after the last row group."""
    # petastorm refuses all shards where there are more of them than row groups.
    used = shards_with_rows(folder, shards)
    if shard >= used:
        return
    check_folder(folder)  # just before petastorm opens it
    reader = make_batch_reader(
        folder.resolve().as_uri(),
        schema_fields=[f"^{name}$" for name in READ],
        reader_pool_type="dummy",
        shuffle_row_groups=True,
        seed=seed + 1,  # petastorm takes 0 for no seed, and shuffles by NumPy's global state
        num_epochs=1,
        cur_shard=shard,
        shard_count=used,
    )
    with reader:
        # petastorm names the row groups in a thread of its own, and sleeps .1 s where that has not begun: let it begin.
        # Without this an epoch of 2,560 users in 4 shards waited .2 to .4 s, 5 to 9 % of it.
        time.sleep(LET_BEGIN_SECONDS)
        yield from reader


def _shuffled(buffer: list[History], rng: np.random.Generator) -> Iterator[History]:
    for place in rng.permutation(len(buffer)):
        yield buffer[place]
