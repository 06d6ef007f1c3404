"""Checkpoints: whole or not there, and no more than one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from halflife.training import checkpoint
from halflife.training.checkpoint import Checkpoints, Position

ARRAYS = {"now/000": np.arange(3, dtype=np.float32), "now/001": np.array(7, dtype=np.int64)}


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    place = Position(epoch=3, step=20, loss=0.1 + 0.2, best={"validation_loss": 1 / 3}, best_epoch=2)
    Checkpoints(tmp_path).save(Position(), {})
    Checkpoints(tmp_path).save(place, ARRAYS)
    found = Checkpoints(tmp_path).load()
    assert found is not None
    assert found[0] == place == checkpoint.position_in(tmp_path)
    assert {name: (array.dtype, array.tolist()) for name, array in found[1].items()} == {
        name: (array.dtype, array.tolist()) for name, array in ARRAYS.items()
    }
    assert len(list(tmp_path.glob("arrays-*"))) == 1


@pytest.mark.parametrize("damage", ["cut off", "changed", "gone", "no position", "pickled"])
def test_a_damaged_checkpoint_is_none(tmp_path: Path, damage: str) -> None:
    Checkpoints(tmp_path).save(Position(epoch=2), ARRAYS)
    (arrays,) = tmp_path.glob("arrays-*")
    if damage == "cut off":
        arrays.write_bytes(arrays.read_bytes()[:-20])
    elif damage == "changed":
        arrays.write_bytes(arrays.read_bytes().replace(b"\x00\x00\x80\x3f", b"\x00\x00\x80\x40"))
    elif damage == "gone":
        arrays.unlink()
    elif damage == "no position":
        (tmp_path / checkpoint.NAME).write_text('{"arrays": 1}')
    else:
        Checkpoints(tmp_path).save(Position(epoch=2), {"now/000": np.array([{}], dtype=object)})
    assert Checkpoints(tmp_path).load() is None


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).load() is None
    assert checkpoint.position_in(tmp_path) is None
