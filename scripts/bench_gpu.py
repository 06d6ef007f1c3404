"""Training on one GPU: sequences a second, with cuDNN's recurrent kernels and without, and in mixed precision."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf
from bench_processes import BENCH, fresh_folder
from bench_train import table_of
from bench_train_rank import launch
from bench_training import write_json
from rich.console import Console
from rich.table import Table

CONTESTANTS = {
    "float32": "as it is by default: Keras' LSTM, which takes cuDNN's kernel",
    "mixed_float16": "train.precision: mixed_float16",
    "no_cudnn": "Keras' own loop over the sequence in place of cuDNN's kernel",
    "cpu": "the same on one core, the GPU hidden",
}
SCRIPT = str(Path(__file__).with_name("bench_gpu_rank.py"))


def table(name: str, epochs: list[dict[str, Any]]) -> Table:
    shown = Table(title=f"examples a second of one epoch of training, {name}", title_justify="left")
    for column in ("", "users a step", "fed by petastorm", "batches made before", "cuDNN, gradient", "loss", "GPU MiB"):
        shown.add_column(column, justify="right")
    for epoch in epochs:
        speeds = (epoch["sequences"] / epoch[what] for what in ("seconds", "memory_fed_seconds"))
        fed, from_memory = (f"{speed:,.0f}" for speed in speeds)
        layers, loss = ", ".join(map(str, epoch["cudnn"])), f"{epoch['loss']:.3f}"
        memory = "" if epoch["gpu_mb"] is None else f"{epoch['gpu_mb']:,}"
        shown.add_row(epoch["contestant"], str(epoch["users_per_batch"]), fed, from_memory, layers, loss, memory)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench gpu", description=__doc__)
    parser.add_argument("--events", type=int, default=1_500_000, help="of the generated log (default: %(default)s)")
    parser.add_argument("--users", type=int, default=5_120, help="(default: %(default)s)")
    parser.add_argument("--items", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--sizes", default="64,256,1024", help="users of a step (default: %(default)s)")
    parser.add_argument("--only", default=",".join(CONTESTANTS), help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for one object")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in CONTESTANTS]:
        parser.error(f"--only: {unknown[0]!r} is none of {', '.join(CONTESTANTS)}")
    if chosen != ["cpu"] and not tf.config.list_physical_devices("GPU"):
        sys.exit("bench gpu: TensorFlow sees no GPU here (nvidia-smi; scripts/setup --gpu); without one: --only cpu")
    folder = table_of(options.events, options.users, options.items, fresh_folder(BENCH / "gpu"))
    gpus, epochs = [], []
    for name in chosen:
        print(name, file=sys.stderr)
        launch(1, SCRIPT, name, folder, options.sizes, folder / "measured.json")
        found = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
        gpus, epochs = gpus or found["gpus"], [*epochs, *found["epochs"]]
    shutil.rmtree(folder)
    write_json(options.json, [{"bench": "gpu", "gpus": gpus, "epochs": epochs}])
    Console(width=None if Console().is_terminal else 140).print(table(", ".join(gpus) or "a CPU", epochs))
    print("\n".join(f"{name}: {CONTESTANTS[name]}" for name in chosen))


if __name__ == "__main__":
    main()
