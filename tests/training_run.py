"""A small training run on the log of training_log.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halflife.config import ModelConfig, TrainConfig
from halflife.training.task import TrainingTask
from training_log import AS_OF, ITEMS

MODEL = ModelConfig(vector_size=4, encoder_units=(6, 5), jump_units=5, item_traits=2, half_life_days=30.0)
TRAIN: dict[str, Any] = {
    "launcher": "horovodrun",
    "ranks": 1,
    "epochs": 3,
    "users_per_batch": 8,
    "cuts_per_user": 2,
    "validation_days": 21,
    "validation_users": 95,  # fewer than twice the users of the tests: one midnight each
    "negatives": 8,
    "tensorboard": None,
}


def task_in(work: Path, rows: Path, **train: Any) -> TrainingTask:
    """A run on `rows` that works in a new folder `work`."""
    work.mkdir(parents=True)
    ITEMS.to_parquet(work / "items.parquet", index=False)
    return TrainingTask(
        rows=rows,
        items=work / "items.parquet",
        model_directory=work / "model",
        progress_file=work / "progress.jsonl",
        event_types=("purchase", "cancel"),
        as_of_seconds=AS_OF,
        sequence_length=16,
        model=MODEL,
        train=TrainConfig.model_validate({**TRAIN, **train}),
        config={"model": {}, "train": {}},
    )
