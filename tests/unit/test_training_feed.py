"""The petastorm feed: disjoint shards whose union is everything, in an order of the seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from halflife.errors import InputMissingError
from halflife.training import feed
from halflife.training.examples import History
from training_log import AS_OF, row_of, user_events, write_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "table"
    write_rows(path, [row_of(user_events(user)) for user in range(14)], [5, 2, 4, 3])
    return path


def users(folder: Path, shard: int, shards: int, seed: int = 1) -> list[float]:
    """The users of a shard in the order of reading, known by their first event."""
    rows = feed.histories(folder, before_seconds=AS_OF, shard=shard, shards=shards, seed=seed, shuffle_rows=4)
    return [_name(row) for row in rows]


def _name(row: History) -> float:
    return float(row.seconds[0])


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_are_disjoint_and_hold_everything(folder: Path, shards: int) -> None:
    found = [name for shard in range(shards) for name in users(folder, shard, shards)]
    assert sorted(found) == sorted(float(user_events(user)["event_seconds"][0]) for user in range(14))


def test_order_follows_the_seed_and_shards_do_not(folder: Path) -> None:
    assert users(folder, 0, 2, seed=1) == users(folder, 0, 2, seed=1)
    orders = {tuple(users(folder, 0, 2, seed=seed)) for seed in range(1, 5)}
    assert len(orders) > 1
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(users(folder, 0, 2)))}


def test_more_shards_than_row_groups_leave_some_empty(folder: Path) -> None:
    sizes = [len(users(folder, shard, 6)) for shard in range(6)]
    assert sum(sizes) == 14
    assert 0 in sizes


def test_rows_come_without_padding(folder: Path) -> None:
    row = next(feed.histories(folder, before_seconds=AS_OF, shard=0, shards=1, seed=1, shuffle_rows=4))
    assert len(row) == 40
    assert row.jump_features.shape[0] == row.sequence_features.shape[0] == 40
    assert (np.diff(row.seconds) >= 0).all()


def test_a_folder_without_parquet_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="no Parquet files"):
        feed.check_folder(tmp_path)
