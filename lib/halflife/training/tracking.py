"""A run's curves for people: TensorBoard's event files, and MLflow where the config names a server."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import tensorflow as tf

from halflife.training.task import TrainingTask


class Tracker:
    """Writes figures by step. Only rank 0 has one."""

    def __init__(self, task: TrainingTask) -> None:
        self.writer = None if task.events is None else tf.summary.create_file_writer(str(task.events))
        self.mlflow: Any = None
        if task.train.mlflow_uri is not None:
            self.mlflow = import_module("mlflow")
            self.mlflow.set_tracking_uri(task.train.mlflow_uri)
            self.mlflow.set_experiment("halflife")
            known = _run_id(task.keep)
            self.mlflow.start_run(run_id=known)
            if known is None:  # MLflow refuses other values, which a run that goes on may have been given
                _keep_run_id(task.keep, self.mlflow.active_run().info.run_id)
                self.mlflow.log_params({**_flat("model", task.config["model"]), **_flat("train", task.config["train"])})

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures as of a step."""
        if self.writer is not None:
            with self.writer.as_default():
                for name, value in values.items():
                    tf.summary.scalar(name, value, step=step)
            self.writer.flush()
        if self.mlflow is not None:
            self.mlflow.log_metrics(dict(values), step=step)

    def end(self) -> None:
        """Close what is open."""
        if self.writer is not None:
            self.writer.close()
        if self.mlflow is not None:
            self.mlflow.end_run()


def _run_id(keep: Path | None) -> str | None:
    """MLflow's run that a killed run goes on with."""
    file = None if keep is None else keep / "mlflow_run"
    return file.read_text(encoding="utf-8") if file is not None and file.exists() else None


def _keep_run_id(keep: Path | None, run_id: str) -> None:
    if keep is not None:
        (keep / "mlflow_run").write_text(run_id, encoding="utf-8")


def _flat(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for name, value in values.items()}
