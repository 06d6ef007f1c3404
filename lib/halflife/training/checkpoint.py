"""Where a run is, so that a killed one goes on: arrays in an npz, everything else in a JSON that names its digest.

checkpoint.json is replaced in one step when the arrays that it names are on the disk, so that there is always a whole
checkpoint. The cuts, the negatives and the order of users are drawn from (seed, epoch, shard or step), so the position
stands for the random state as well.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from halflife.digests import digest_of_file

NAME: Final = "checkpoint.json"

Arrays = dict[str, NDArray[Any]]


class Position(BaseModel):
    """How far a run is: `step` steps of `epoch` are taken.

    `loss` of strengths, `order_loss` of the next session's order and `examples` are sums over them and all ranks.
    `best` are the validation figures of the best epoch, `duel` those of its weights against the champion.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    epoch: int = 1
    step: int = 0
    loss: float = 0.0
    order_loss: float = 0.0
    examples: float = 0.0
    catching_up: bool = False
    epochs_learned: int = 0
    trained: dict[str, float] = {}
    start: dict[str, float] = {}
    best: dict[str, float] = {}
    best_epoch: int = 0
    duel: dict[str, float] = {}

    @property
    def words(self) -> str:
        """Where the run is, for people."""
        return f"epoch {self.epoch}, step {self.step}"


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    position: Position
    arrays: str
    sha256: str


class Checkpoints:
    """The checkpoint in a folder, the newest only. One process writes; every rank reads before the first step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, position: Position, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the checkpoint in one step."""
        name = f"arrays-{position.epoch}-{position.step}-{os.getpid()}.npz"
        with (self.folder / name).open("wb") as file:
            np.savez(file, **arrays)
            _to_disk(file)
        stored = _Stored(position=position, arrays=name, sha256=digest_of_file(self.folder / name))
        fresh = self.folder / f".{NAME}"
        with fresh.open("wb") as file:
            file.write(stored.model_dump_json().encode())
            _to_disk(file)
        fresh.replace(self.folder / NAME)
        for old in self.folder.glob("arrays-*.npz"):
            if old.name != name:
                old.unlink()

    def load(self) -> tuple[Position, Arrays] | None:
        """The checkpoint, or None where there is none or it is damaged: a run can always start anew."""
        try:
            stored = _Stored.model_validate_json((self.folder / NAME).read_bytes())
            path = self.folder / Path(stored.arrays).name
            if digest_of_file(path) != stored.sha256:
                return None
            with np.load(path, allow_pickle=False) as arrays:
                return stored.position, {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, ValidationError, zipfile.BadZipFile):
            return None


def position_in(folder: Path) -> Position | None:
    """Where the run whose checkpoint is in a folder would go on."""
    try:
        return Position.model_validate(json.loads((folder / NAME).read_text(encoding="utf-8"))["position"])
    except (OSError, ValueError, KeyError):
        return None


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
