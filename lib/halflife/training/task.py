"""What the launcher hands to every rank, and what a rank hands back. Plain values only; no TensorFlow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halflife.config import ModelConfig, TrainConfig
from halflife.decay import SECONDS_PER_DAY

# stage, done, total, message
Report = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class TrainingTask:
    """One training run. `rows` is the folder of the training table, `items` the catalogue; times are epoch seconds."""

    rows: Path
    items: Path
    model_directory: Path
    progress_file: Path
    event_types: tuple[str, ...]
    as_of_seconds: float
    sequence_length: int
    model: ModelConfig
    train: TrainConfig
    config: dict[str, Any]

    @property
    def validation_start(self) -> float:
        """Where the held-out days begin."""
        return self.as_of_seconds - self.train.validation_days * SECONDS_PER_DAY


@dataclass(frozen=True)
class RankResult:
    """What one rank ended with: figures averaged over ranks, and a digest of its weights."""

    rank: int
    metrics: dict[str, float]
    weights_sha256: str


class ProgressFile:
    """JSON lines that rank 0 writes and the driver reads along; other ranks stay silent."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def report(self, stage: str, done: int, total: int, message: str) -> None:
        """Append one line."""
        if self.path is None:
            return
        line = {"time": time.time(), "stage": stage, "done": done, "total": total, "message": message}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
