"""What the launcher hands to every rank, and what a rank hands back, as JSON files. No TensorFlow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from halflife.config import ModelConfig, TrainConfig
from halflife.decay import SECONDS_PER_DAY

# stage, done, total, message
Report = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Rival:
    """A published model to be compared with: its folder, and until when it has seen events, in epoch seconds."""

    folder: Path
    as_of_seconds: float


@dataclass(frozen=True)
class TrainingTask:
    """One training run. `rows` is the folder of the training table, `items` the catalogue; times are epoch seconds.

    `keep` outlives a killed run: checkpoints, and the driver's lifeline. `champion` is the model to be compared with,
    `events` the folder of TensorBoard's files.
    """

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
    keep: Path | None = None
    champion: Rival | None = None
    events: Path | None = None

    @property
    def validation_start(self) -> float:
        """Where the held-out days begin."""
        return self.as_of_seconds - self.train.validation_days * SECONDS_PER_DAY

    @property
    def tuning_start(self) -> float:
        """Where the days begin on which the gate's half-life is tuned: as many as the held-out ones, before them."""
        return self.validation_start - self.train.validation_days * SECONDS_PER_DAY

    @property
    def unseen_start(self) -> float:
        """Where the days begin that neither training nor the champion has seen."""
        return max(self.validation_start, self.as_of_seconds if self.champion is None else self.champion.as_of_seconds)

    @property
    def file(self) -> Path:
        """Where the task travels: beside the model."""
        return self.model_directory.with_name("task.json")

    def result_file(self, rank: int) -> Path:
        """Where a rank says how it ended."""
        return self.model_directory.with_name(f"rank-{rank}.json")

    def write(self) -> Path:
        """Write the task for the ranks to read."""
        self.file.write_bytes(_TASK.dump_json(self))
        return self.file

    @staticmethod
    def read(file: Path) -> TrainingTask:
        """The task from a file of `write`."""
        return _TASK.validate_json(file.read_bytes())


_TASK = TypeAdapter(TrainingTask)


@dataclass(frozen=True)
class RankResult:
    """What one rank ended with: figures averaged over ranks, and a digest of its weights; or why it failed."""

    rank: int
    metrics: dict[str, float]
    weights_sha256: str
    error: str | None = None
    exit_code: int = 0

    def write(self, task: TrainingTask) -> None:
        """Leave the result where the driver looks for it, whole or not at all."""
        file = task.result_file(self.rank)
        fresh = file.with_name(f".{file.name}")
        fresh.write_bytes(_RESULT.dump_json(self))
        fresh.replace(file)

    @staticmethod
    def read(task: TrainingTask, rank: int) -> RankResult | None:
        """A rank's result, or None where it left none that is whole: a full disk, say, must not hide what failed."""
        try:
            return _RESULT.validate_json(task.result_file(rank).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None


_RESULT = TypeAdapter(RankResult)


class ProgressFile:
    """JSON lines that rank 0 writes and the driver reads along; other ranks stay silent."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def report(
        self, stage: str, done: int, total: int, message: str, figures: Mapping[str, float] | None = None
    ) -> None:
        """Append one line, with the figures that the message tells of, for programs to read."""
        if self.path is None:
            return
        line = {"time": time.time(), "stage": stage, "done": done, "total": total, "message": message}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, **(figures or {})}) + "\n")
