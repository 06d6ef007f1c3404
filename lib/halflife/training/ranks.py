"""What the ranks of a training find out together, and what each of them computes on."""

from __future__ import annotations

import hashlib
from typing import Any

import horovod.tensorflow as hvd
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from halflife.errors import HalflifeError
from halflife.model.network import Network
from halflife.training.devices import assigned_gpus, gpu_of


def use_one_core() -> None:
    """Keep a CPU rank to its core, or give a GPU rank the device that is its own (devices.py).

    Raises ConfigError where there is none for it.
    """
    devices = tf.config.list_physical_devices("GPU")
    if devices:
        mine = gpu_of(len(devices), hvd.local_rank(), hvd.local_size(), assigned_gpus())
        tf.config.set_visible_devices(devices[mine], "GPU")
        return
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over ranks, of the same shape."""
    total: NDArray[np.float64] = hvd.allreduce(tf.constant(values, dtype=tf.float64), op=hvd.Sum).numpy()
    return total


def largest(value: float) -> Any:
    """Largest value over ranks, of the same kind."""
    return type(value)(hvd.allgather(tf.constant([float(value)], dtype=tf.float64)).numpy().max())


def common_digest(network: Network) -> str:
    """sha256 of all weights. Raises HalflifeError where the ranks do not hold the same."""
    digest = hashlib.sha256()
    for variable in network.weights:
        digest.update(variable.numpy().tobytes())
    everyone = hvd.allgather(tf.constant(np.frombuffer(digest.digest(), dtype=np.uint8)[None])).numpy()
    others = np.flatnonzero((everyone != everyone[0]).any(axis=1)).tolist()
    if others:
        raise HalflifeError(
            f"the weights of rank {', '.join(map(str, others))} are not those of rank 0, so this is no one model: is "
            "TensorFlow the same on all hosts? Nothing was published"
        )
    return digest.hexdigest()
