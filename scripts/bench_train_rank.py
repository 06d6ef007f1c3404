"""One epoch of training by one contestant of scripts/bench train, measured; prints a JSON object.

Called with a contestant, the folder of its table and the users of a step, it starts the ranks and waits for them; each
of them is this script again, on a core of its own. All contestants take the same steps with the same examples: the
batches of a seed do not depend on the number of ranks. Seconds are counted from the second step on, when all graphs
are compiled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from halflife.config import ModelConfig, TrainConfig
from halflife.training.launch import CYCLE_TIME, RANK_ENVIRONMENT
from halflife.training.task import TrainingTask

RANKS = {"ours": 2, "not_ahead": 2, "memory_fed": 2, "one_rank": 1, "keras_fit": 1}
IN_MEMORY = ("memory_fed", "keras_fit")
VALIDATION_DAYS = 28


def task_of(folder: Path, work: Path, **train: Any) -> TrainingTask:
    """The training of a table of bench_train.py, with these settings of the config's section train."""
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return TrainingTask(
        rows=folder / "rows",
        items=folder / "items.parquet",
        model_directory=work / "model",
        progress_file=work / "progress.jsonl",
        event_types=tuple(about["event_types"]),
        as_of_seconds=about["as_of_seconds"],
        sequence_length=about["sequence_length"],
        model=ModelConfig(),
        train=TrainConfig(validation_days=VALIDATION_DAYS, **train),
        config={},
    )


def start(contestant: str, folder: Path, users_per_batch: int) -> None:
    """Start the ranks; rank 0 leaves its measurement in a file."""
    work = folder / contestant
    work.mkdir(exist_ok=True)
    launch(RANKS[contestant], __file__, contestant, folder, users_per_batch)
    print((work / "measured.json").read_text(encoding="utf-8"))


def launch(ranks: int, script: str, *arguments: object) -> None:
    """Run a script as Horovod's ranks; with one rank it allreduces with itself, as one rank of a real training does."""
    command = [sys.executable, script, *map(str, arguments)]
    launcher = [sys.executable, "-m", "halflife.training.horovodrun", "-np", str(ranks), "-H", f"localhost:{ranks}"]
    launcher += ["--gloo", "--network-interfaces", "lo"]
    environment = {**CYCLE_TIME, **os.environ, **RANK_ENVIRONMENT, "HALFLIFE_BENCH_RANK": "1"}
    subprocess.run([*launcher, *command], env=environment, check=True, stdout=sys.stderr)


def run(contestant: str, folder: Path, users_per_batch: int) -> None:
    """Be one rank: the epoch, then what it took."""
    import horovod.tensorflow as hvd
    import keras
    import tensorflow as tf

    hvd.init()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if contestant == "keras_fit":
        os.sched_setaffinity(0, cores)
        tf.config.threading.set_intra_op_parallelism_threads(2)
        tf.config.threading.set_inter_op_parallelism_threads(2)
    else:
        from halflife.training.ranks import use_one_core

        os.sched_setaffinity(0, {cores[hvd.local_rank()]})
        use_one_core()
    from halflife.training import loop

    keras.utils.set_random_seed(7)
    task = task_of(folder, folder / contestant, ranks=RANKS[contestant], users_per_batch=users_per_batch)
    trainer = loop.Trainer(task)
    end = task.validation_start
    first = next(trainer.population.batches(end, trainer.at.epoch))
    if contestant in IN_MEMORY:
        batches = list(trainer.population.batches(end, trainer.at.epoch))
        feed_from_memory(trainer, batches)
    if contestant == "not_ahead":
        loop._made_ahead = lambda batches: batches
    if contestant == "keras_fit":
        seconds, cpu, losses = keras_fit(trainer, batches)
        examples = sum(len(batch.cuts.length) for batch in batches)
    else:
        trainer.step.take(first, 0, 0)
        hvd.allreduce(tf.zeros(1))
        seconds, cpu = an_epoch(trainer)
        examples, losses = int(trainer.at.examples), trainer.at.loss + trainer.at.order_loss
    cpu = float(hvd.allreduce(tf.constant(cpu), op=hvd.Sum))
    if hvd.rank() == 0:
        told = {"sequences": examples, "steps": trainer.steps, "loss": losses, "cpu_seconds": cpu}
        measured = {"seconds": seconds, "stages": told}
        (folder / contestant / "measured.json").write_text(json.dumps(measured), encoding="utf-8")


def feed_from_memory(trainer: Any, batches: list[Any]) -> None:
    """Let an epoch take these batches, made before, in place of petastorm's."""
    trainer.population.batches = lambda *_: iter(batches)


def an_epoch(trainer: Any) -> tuple[float, float]:
    """Seconds that an epoch of steps takes, and seconds of CPU."""
    begin, cpu = time.perf_counter(), time.process_time()
    trainer._pass(trainer.task.validation_start)
    return time.perf_counter() - begin, time.process_time() - cpu


def keras_fit(trainer: Any, batches: list[Any]) -> tuple[float, float, float]:
    """Seconds that Keras' own `fit` takes for the same steps of the same network and loss, of CPU too; the loss."""
    import keras
    import tensorflow as tf

    from halflife.model.losses import training_loss
    from halflife.training.step import _counts, _optimizer
    from halflife.training.tensors import batch_specs

    train, network = trainer.task.train, trainer.network

    class Fitted(keras.Model):  # type: ignore[misc]
        """The network, with the loss of our step as its own."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.total = self.add_weight(name="total", shape=(), initializer="zeros", trainable=False)
            self.built = True

        def call(self, inputs: Any, training: bool = True) -> Any:
            batch, candidates, weights = inputs
            examples, sessions, observed = tf.unstack(_counts(batch))
            ranking = train.ranking_weight * observed / tf.maximum(sessions, 1.0)
            losses = {str(name): weight for name, weight in train.loss.items()}
            loss = sum(training_loss(network, batch, candidates, weights, losses, ranking_weight=ranking))
            self.total.assign_add(loss)
            self.add_loss(loss / tf.maximum(examples, 1.0) + train.l2 * network.items.penalty())
            return loss

    def examples() -> Any:
        for number, batch in enumerate(batches):
            yield ((batch, *trainer.step.candidates(1, number)),)

    specs = (
        batch_specs(trainer.task.sequence_length),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None], tf.float32),
    )
    data = tf.data.Dataset.from_generator(examples, output_signature=(specs,)).prefetch(2)
    fitted = Fitted()
    # No XLA: it would compile anew for every batch, which all differ in size.
    fitted.compile(_optimizer(train, trainer._steps_planned()), jit_compile=False)
    fitted.fit(data.take(1), verbose=0)
    fitted.total.assign(0.0)
    begin, cpu = time.perf_counter(), time.process_time()
    fitted.fit(data, verbose=0)
    return time.perf_counter() - begin, time.process_time() - cpu, float(fitted.total.numpy())


def main() -> None:
    contestant, folder, users_per_batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if "HALFLIFE_BENCH_RANK" in os.environ:
        run(contestant, folder, users_per_batch)
    else:
        start(contestant, folder, users_per_batch)


if __name__ == "__main__":
    main()
