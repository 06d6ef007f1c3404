"""One rank of a training run: a Spark task, or a process of Horovod's launcher, with its rendezvous on one interface:

    python -m halflife.training.horovodrun -np N -H HOSTS --network-interfaces eth1 python -m halflife.train TASK.json

TASK.json is what jobs/train.py writes for its ranks. Each rank leaves its result beside it, in rank-R.json: figures
and a digest of its weights, or why it failed. Exit codes are those of the jobs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from halflife.errors import HalflifeError
from halflife.training import lifeline, silence
from halflife.training.task import RankResult, TrainingTask


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rank that Horovod's environment says this process is; returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    return run(Path(given[0]))


def run(file: Path) -> int:
    """Run the task of a file as this process's rank; a failure is written down for the driver, then raised."""
    task = TrainingTask.read(file)
    if task.keep is not None:
        lifeline.end_without_driver(task.keep)
    rank = int(os.environ.get("HOROVOD_RANK", "0"))
    from halflife.training.loop import train_rank  # TensorFlow: not for a wrong command line

    try:
        with nullcontext() if task.keep is None else silence.heard(task.keep, rank):
            train_rank(task).write(task)
    except Exception as error:
        known = isinstance(error, HalflifeError)
        message = " ".join((str(error) if known else f"{type(error).__name__}: {error}").split())[:500]
        code = error.exit_code if isinstance(error, HalflifeError) else 1
        RankResult(rank, {}, "", message, code).write(task)
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
