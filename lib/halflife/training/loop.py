"""The training function that every Horovod rank runs, whoever launched it.

All ranks take the same number of steps, agreed before each epoch: a rank whose shard ends early goes on with empty
batches, which add nothing to the sums that gradients are made of. So skewed or empty shards never leave the others
waiting.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import horovod.tensorflow as hvd
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from halflife.decay import SECONDS_PER_DAY
from halflife.errors import InputMissingError
from halflife.model import artifact
from halflife.model.architecture import Architecture
from halflife.model.batch import Batch
from halflife.model.losses import point_process
from halflife.model.network import Network
from halflife.training import feed
from halflife.training.examples import History, batch_of, random_cuts
from halflife.training.initial import ItemCounts, count_items, follow_counts, start_network
from halflife.training.task import ProgressFile, RankResult, TrainingTask
from halflife.training.tensors import batch_specs
from halflife.training.validation import ValidationUsers, Validator, figures

# Of the time before the first cut, how much is history only: the first examples need something to look back on.
HISTORY_SHARE = 0.15
STEPS_PER_REPORT = 10
# The validation users and the first count are read in an order of their own, the same in every run.
COUNT_SEED = 0


def train_rank(task: TrainingTask) -> RankResult:
    """Train on this rank's shard; rank 0 publishes the model into `task.model_directory`."""
    hvd.init()
    use_one_core()
    keras.utils.set_random_seed(task.train.seed)
    begin = time.monotonic()
    trainer = Trainer(task)
    metrics = trainer.run()
    metrics["train_seconds"] = time.monotonic() - begin
    if hvd.rank() == 0:
        trainer.publish(metrics)
    return RankResult(hvd.rank(), metrics, weights_digest(trainer.network))


def use_one_core() -> None:
    """Keep a CPU rank to its core, or give a GPU rank the device of its local rank."""
    devices = tf.config.list_physical_devices("GPU")
    if devices:
        tf.config.set_visible_devices(devices[hvd.local_rank()], "GPU")
        return
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


class Trainer:
    """The state of one rank's training."""

    def __init__(self, task: TrainingTask) -> None:
        self.task = task
        self.items = pd.read_parquet(task.items)
        self.progress = ProgressFile(task.progress_file if hvd.rank() == 0 else None)
        self.rng = np.random.default_rng([task.train.seed, hvd.rank()])
        self.users = 0
        self.first_seconds = task.as_of_seconds
        self.held_out = ValidationUsers()
        self.counts = self._read_through(task.validation_start)
        self.network = Network(_architecture(task, self.items), _categories(self.items))
        start_network(self.network, self.counts, task.model.half_life_days)
        self.batches_per_epoch: int = _largest(math.ceil(self.users / task.train.users_per_batch))
        self.step = Step(self.network, task, self._steps_planned())
        self.validator = Validator(self.network, self.held_out)
        hvd.broadcast_variables(self.step.state(), root_rank=0)

    def run(self) -> dict[str, float]:
        """Train until the validation loss no longer falls, keep the best epoch, and catch up on the held-out days."""
        train = self.task.train
        best, best_figures, best_epoch = self._copy(), self._validate(), 0
        start = {f"start_{name.removeprefix('validation_')}": value for name, value in best_figures.items()}
        loss, epoch = float("nan"), 0
        for epoch in range(1, train.epochs + 1):
            loss = self._epoch(epoch, self.task.validation_start)
            now = self._validate()
            self._say(epoch, loss, now)
            if now["validation_loss"] < best_figures["validation_loss"]:
                best, best_figures, best_epoch = self._copy(), now, epoch
            elif epoch - best_epoch >= train.patience:
                break
        self._restore(best)
        self._catch_up(epoch)
        return {**start, **best_figures, "train_loss": loss, "epochs": float(epoch), "best_epoch": float(best_epoch)}

    def publish(self, metrics: dict[str, float]) -> None:
        """Write the model, and read it once the way the nightly job will."""
        task = self.task
        artifact.save(
            task.model_directory,
            architecture=self.network.architecture,
            weights=self.network.weights_for_scoring(),
            items=self.items,
            event_types=task.event_types,
            as_of_seconds=task.as_of_seconds,
            metrics={name: value for name, value in metrics.items() if name != "train_seconds"},
            config=task.config,
        )
        artifact.load(task.model_directory)

    def _histories(self, seed: int, before_seconds: float) -> Iterator[History]:
        return feed.histories(
            self.task.rows,
            before_seconds=before_seconds,
            shard=hvd.rank(),
            shards=hvd.size(),
            seed=seed,
            shuffle_rows=self.task.train.shuffle_rows,
        )

    def _read_through(self, before_seconds: float) -> ItemCounts:
        """Count items over all ranks, this rank's users, and set validation users aside, in one pass."""
        share = math.ceil(self.task.train.validation_users / hvd.size())
        end, horizon = self.task.as_of_seconds, self.task.model.horizon_days

        def noted() -> Iterator[History]:
            for history in self._histories(COUNT_SEED, end):
                self.users += 1
                self.first_seconds = min(self.first_seconds, *history.seconds[:1])
                if self.users <= share:
                    self.held_out.add(history, before_seconds, end, horizon, self.users)
                yield history

        counts = count_items(noted(), len(self.items), before_seconds)
        self.first_seconds = -_largest(-self.first_seconds)
        if _largest(len(self.held_out.midnights)) == 0:
            raise InputMissingError(
                f"{self.task.rows}: no user has events before the validation days, so there is nothing to learn from: "
                "the log is too short for train.validation_days"
            )
        return ItemCounts.unpacked(_summed(counts.packed()))

    def _steps_planned(self) -> int:
        return self.batches_per_epoch * (self.task.train.epochs + self.task.train.catch_up_epochs)

    def _epoch(self, epoch: int, end_seconds: float) -> float:
        """One pass over the users with examples whose targets end by `end_seconds`; the loss over all ranks."""
        total, steps = np.zeros(2), self.batches_per_epoch
        for number, batch in enumerate(self._batches(epoch, end_seconds), start=1):
            total += self.step.take(batch, self.rng)
            if number % STEPS_PER_REPORT == 0 or number == steps:
                message = f"epoch {epoch}, loss {total[0] / max(total[1], 1):.4f}"
                self.progress.report("train", (epoch - 1) * steps + number, self._steps_planned(), message)
        total = _summed(total)
        return float(total[0] / max(total[1], 1.0))

    def _batches(self, epoch: int, end_seconds: float) -> Iterator[Batch]:
        """Exactly `batches_per_epoch` batches, empty ones once the shard is used up."""
        train, horizon = self.task.train, self.task.model.horizon_days
        last = end_seconds - horizon * SECONDS_PER_DAY
        first = self.first_seconds + HISTORY_SHARE * (last - self.first_seconds)
        users = self._histories(train.seed + epoch, end_seconds)
        for _ in range(self.batches_per_epoch):
            rows = list(islice(users, train.users_per_batch))
            cuts = [random_cuts(row, train.cuts_per_user, first, last, train.recency_days, self.rng) for row in rows]
            yield batch_of(rows, cuts, self.task.sequence_length, horizon)

    def _validate(self) -> dict[str, float]:
        return figures(_summed(self.validator.sums()))

    def _catch_up(self, epochs_done: int) -> None:
        """Learn from the held-out days as well, so that new items and new habits are in the model that is published."""
        end = self.task.as_of_seconds
        counts = count_items(self._histories(COUNT_SEED, end), len(self.items), end)
        after = ItemCounts.unpacked(_summed(counts.packed()))
        follow_counts(self.network, self.counts, after)
        for epoch in range(epochs_done + 1, epochs_done + 1 + self.task.train.catch_up_epochs):
            self._epoch(epoch, end)

    def _say(self, epoch: int, loss: float, now: dict[str, float]) -> None:
        message = (
            f"epoch {epoch} of {self.task.train.epochs}: loss {loss:.4f}, validation loss "
            f"{now['validation_loss']:.4f}, NDCG@10 {now['validation_ndcg_at_10']:.4f}"
        )
        self.progress.report("train", epoch * self.batches_per_epoch, self._steps_planned(), message)

    def _copy(self) -> list[NDArray[Any]]:
        return [weight.numpy() for weight in self.network.trainable_variables]

    def _restore(self, weights: list[NDArray[Any]]) -> None:
        for variable, value in zip(self.network.trainable_variables, weights, strict=True):
            variable.assign(value)


class Step:
    """One optimizer step over all ranks: gradients of sums, divided by the number of examples of all ranks."""

    def __init__(self, network: Network, task: TrainingTask, steps_planned: int) -> None:
        train = task.train
        self.network = network
        self.items = network.architecture.items
        self.negatives = min(train.negatives, self.items)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, steps_planned, alpha=0.05, warmup_target=train.learning_rate, warmup_steps=train.warm_up_steps
        )
        self.optimizer = keras.optimizers.Adam(schedule, beta_2=0.99)
        self.optimizer.build(network.trainable_variables)
        specs = [batch_specs(task.sequence_length), tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)]

        @tf.function(input_signature=specs)  # type: ignore[untyped-decorator]
        def step(batch: Batch, candidates: Any, weights: Any) -> Any:
            examples = tf.cast(tf.shape(batch.cuts.length)[0], tf.float32)
            # Average over ranks of (sum * ranks / examples of all ranks) is the mean over all examples.
            scale = hvd.size() / tf.maximum(hvd.allreduce(examples, op=hvd.Sum), 1.0)
            with tf.GradientTape() as tape:
                losses = point_process(network, batch, candidates, weights)
                objective = losses.likelihood * scale + train.l2 * network.items.penalty()
            tape = hvd.DistributedGradientTape(tape, sparse_as_dense=True)
            gradients = tape.gradient(objective, [variable.value for variable in network.trainable_variables])
            gradients, _ = tf.clip_by_global_norm(gradients, train.clip_norm)
            self.optimizer.apply(gradients, network.trainable_variables)
            return tf.stack([losses.likelihood, examples])

        self._step = step

    def take(self, batch: Batch, rng: np.random.Generator) -> NDArray[np.float64]:
        """Take the step together with the other ranks; this rank's loss sum and number of examples."""
        taken: NDArray[np.float64] = self._step(batch, *self._candidates(rng)).numpy().astype(np.float64)
        return taken

    def state(self) -> list[Any]:
        """Every variable that has to start equal on all ranks."""
        return [variable.value for variable in (*self.network.variables, *self.optimizer.variables)]

    def _candidates(self, rng: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Items that the affinity is summed over, each weighted by how many it stands for."""
        chosen = rng.choice(self.items, self.negatives, replace=False) if self.negatives < self.items else None
        items = np.arange(self.items) if chosen is None else np.sort(chosen)
        return items.astype(np.int32), np.full(len(items), self.items / len(items), dtype=np.float32)


def weights_digest(network: Network) -> str:
    """sha256 of all trained weights, to compare ranks by."""
    digest = hashlib.sha256()
    for variable in network.trainable_variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def _architecture(task: TrainingTask, items: pd.DataFrame) -> Architecture:
    return Architecture(
        items=len(items),
        event_types=len(task.event_types),
        categories=int(_categories(items).max()) + 1,
        half_lives_days=task.model.half_lives_days,
        horizon_days=task.model.horizon_days,
        sequence_length=task.sequence_length,
        vector_size=task.model.vector_size,
        lstm_units=task.model.lstm_units,
        jump_units=task.model.jump_units,
        item_traits=task.model.item_traits,
    )


def _categories(items: pd.DataFrame) -> NDArray[np.int32]:
    """Category number of each item and of the cold row behind them: 0 stands for none."""
    codes, _ = pd.factorize(items["category"], sort=True, use_na_sentinel=True)
    return np.append(codes + 1, 0).astype(np.int32)


def _summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = hvd.allreduce(tf.constant(values, dtype=tf.float64), op=hvd.Sum).numpy()
    return total


def _largest(value: float) -> Any:
    """Largest value over ranks, of the same kind."""
    return type(value)(hvd.allgather(tf.constant([float(value)], dtype=tf.float64)).numpy().max())
