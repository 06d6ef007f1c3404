"""Which GPU is a rank's."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from halflife.errors import ConfigError


def assigned_gpus() -> Sequence[str]:
    """The addresses of the GPUs that Spark has assigned to this rank's task; none where it assigns none.

    Horovod hands them from the task to the rank, which is a process of its own.
    """
    from horovod.spark.task import get_available_devices  # which knows Spark: not for horovodrun without a GPU

    addresses: list[str] = get_available_devices()
    return addresses


def gpu_of(gpus: int, local_rank: int, local_size: int, assigned: Sequence[str]) -> int:
    """Which of a node's `gpus` is that of a rank: the one assigned to it, else the one of its number on the node.

    Raises ConfigError where that is not there, or the ranks of the node are more than its GPUs.
    """
    here = socket.gethostname()
    if assigned:
        if assigned[0].isdecimal() and int(assigned[0]) < gpus:
            return int(assigned[0])
        raise ConfigError(
            f"cluster.train.gpus_per_rank: Spark has assigned GPU {assigned[0]!r} on {here}, where TensorFlow sees "
            f"0 to {gpus - 1}: the worker's discovery script has to tell their numbers, as conf/find-gpus does"
        )
    if local_size > gpus:
        raise ConfigError(
            f"train.ranks: {local_size} ranks on {here}, which has {gpus} GPUs, and each needs one of its own: lower "
            "train.ranks (or the host's share of train.hosts), or set CUDA_VISIBLE_DEVICES to nothing to train on its "
            "cores"
        )
    return local_rank
