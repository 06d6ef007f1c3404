"""Epochs of training on a GPU by one contestant of scripts/bench gpu, measured; leaves a JSON object in a file.

Called with a contestant, the folder of its table, the users of a step (such as 64,256,1024) and the file, as the only
rank of `python -m halflife.training.horovodrun -np 1 -H localhost:1 --gloo --network-interfaces lo`. Seconds are
counted from the third step on, when the graph is compiled and so are the GPU's kernels.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import horovod.tensorflow as hvd
import keras
import tensorflow as tf
from bench_train_rank import an_epoch, feed_from_memory, task_of

from halflife.training import loop
from halflife.training.ranks import use_one_core

WARM_UP_STEPS = 2
FUSED, FUSED_GRADIENT = "CudnnRNNV3", "CudnnRNNBackpropV3"


def measured(contestant: str, folder: Path, users_per_batch: int) -> dict[str, Any]:
    """An epoch fed by petastorm, then the same with the batches made before."""
    precision = "mixed_float16" if contestant == "mixed_float16" else "float32"
    keras.utils.set_random_seed(7)
    if contestant != "cpu":
        tf.config.experimental.reset_memory_stats("GPU:0")
    work = folder / "work"
    work.mkdir(exist_ok=True)
    task = task_of(folder, work, ranks=1, users_per_batch=users_per_batch, precision=precision)
    trainer = loop.Trainer(task)
    if contestant == "no_cudnn":
        for layer in trainer.network.encoder.stack:
            layer.use_cudnn = False
    batches = list(trainer.population.batches(task.validation_start, trainer.at.epoch))
    for number, batch in enumerate(islice(batches, WARM_UP_STEPS)):
        trainer.step.take(batch, 0, number)
    fed, _ = an_epoch(trainer)
    sequences, loss = int(trainer.at.examples), trainer.at.loss + trainer.at.order_loss
    trainer.at.step = 0
    feed_from_memory(trainer, batches)
    from_memory, _ = an_epoch(trainer)
    operations = [node.type for node in trainer.step._step.get_concrete_function().graph.get_operations()]
    return {
        "contestant": contestant,
        "users_per_batch": users_per_batch,
        "sequences": sequences,
        "steps": trainer.steps,
        "loss": loss / sequences,
        "seconds": fed,
        "memory_fed_seconds": from_memory,
        "cudnn": [operations.count(FUSED), operations.count(FUSED_GRADIENT)],
        "gpu_mb": tf.config.experimental.get_memory_info("GPU:0")["peak"] >> 20 if contestant != "cpu" else None,
    }


def main() -> None:
    contestant, folder, users, file = sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    if contestant == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # read when TensorFlow looks for devices, which it has not yet
    hvd.init()
    use_one_core()
    devices = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(device).get("device_name", device.name) for device in devices]
    epochs = [measured(contestant, folder, int(number)) for number in users.split(",")]
    file.write_text(json.dumps({"gpus": names, "epochs": epochs}), encoding="utf-8")


if __name__ == "__main__":
    main()
