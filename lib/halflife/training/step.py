"""One optimizer step over all ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from halflife.config import TrainConfig
from halflife.model.batch import Batch
from halflife.model.losses import training_loss
from halflife.model.network import Network
from halflife.training.task import TrainingTask
from halflife.training.tensors import batch_specs

# Users of a global batch at which `train.learning_rate` was chosen.
REFERENCE_BATCH: Final = 64
# Sets the stream of the negatives apart from those of the cuts, which begin with the same seed and epoch.
NEGATIVES: Final = 1 << 20


def learning_rate(train: TrainConfig) -> float:
    """The rate at this global batch.

    Adam divides a gradient by the root of its mean square, so a batch k times as large, whose gradient is less noisy
    by the root of k, takes steps larger by the root of k (Malladi et al., On the SDEs and Scaling Rules for Adaptive
    Gradient Algorithms, NeurIPS 2022). Linear is the rule of plain gradient descent (Goyal et al. 2017). A warm-up of
    `train.warm_up_steps` leads to it: the mean squares of the first steps know little.
    """
    ratio = train.users_per_batch / REFERENCE_BATCH
    return train.learning_rate * {"sqrt": math.sqrt(ratio), "linear": ratio, "none": 1.0}[train.learning_rate_scaling]


class Step:
    """Gradients of sums, divided by the number of examples of all ranks; the same candidates on every rank."""

    def __init__(self, network: Network, task: TrainingTask, steps_planned: int) -> None:
        train = task.train
        self.seed = train.seed
        self.network = network
        self.items = network.architecture.items
        self.negatives = min(train.negatives, self.items)
        self.optimizer = _optimizer(train, steps_planned)
        self.optimizer.build(network.trainable_variables)
        scaled = self.optimizer.scale_loss if train.precision == "mixed_float16" else lambda loss: loss
        compression = hvd.Compression.fp16 if train.compression == "fp16" else hvd.Compression.none
        losses: Mapping[str, float] = {str(name): weight for name, weight in train.loss.items()}
        specs = [batch_specs(task.sequence_length), tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)]

        @tf.function(input_signature=specs)  # type: ignore[untyped-decorator]
        def step(batch: Batch, candidates: Any, weights: Any) -> Any:
            counts = _counts(batch)
            examples, sessions, observed = tf.unstack(hvd.allreduce(counts, op=hvd.Sum))
            # Average over ranks of (sum * ranks / examples of all ranks) is the mean over all examples.
            scale = hvd.size() / tf.maximum(examples, 1.0)
            # A session counts once, however many items it holds; all sessions together as much as all strength.
            ranking = train.ranking_weight * observed / tf.maximum(sessions, 1.0) if train.ranking_weight else None
            with tf.GradientTape() as tape:
                loss = training_loss(network, batch, candidates, weights, losses, ranking_weight=ranking)
                objective = scaled((loss.strengths + loss.order) * scale + train.l2 * network.items.penalty())
            variables = [variable.value for variable in network.trainable_variables]
            gradients = _averaged(tape.gradient(objective, variables), variables, compression)
            self.optimizer.apply(gradients, network.trainable_variables)
            return tf.stack([*loss, counts[0]])

        self._step = step

    def take(self, batch: Batch, epoch: int, number: int) -> NDArray[np.float64]:
        """Take step `number` of an epoch together with the other ranks; this rank's loss sums and examples, (3,)."""
        taken: NDArray[np.float64] = self._step(batch, *self.candidates(epoch, number)).numpy().astype(np.float64)
        return taken

    def variables(self) -> list[Any]:
        """Everything that a step changes or starts from: of the network and of the optimizer."""
        return [variable.value for variable in (*self.network.variables, *self.optimizer.variables)]

    def candidates(self, epoch: int, number: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Items that step `number` sums the affinity over, each weighted by how many it stands for."""
        rng = np.random.default_rng([self.seed, epoch, NEGATIVES, number])
        chosen = rng.choice(self.items, self.negatives, replace=False) if self.negatives < self.items else None
        items = np.arange(self.items) if chosen is None else np.sort(chosen)
        return items.astype(np.int32), np.full(len(items), self.items / len(items), dtype=np.float32)


def _averaged(gradients: Sequence[Any], variables: Sequence[Any], compression: Any) -> list[Any]:
    """Gradients of all ranks, averaged as one vector: thirty sums took twice the CPU of one (10,000 items, 2 ranks).

    Those of the embeddings travel dense: with 68,509 items of 32 numbers, 64 users a batch and 2 ranks on 2 busy cores
    a step took .68 and .70 s, with slices gathered .70 and .74 s. The machine was shared, so that is within its noise;
    the penalty and the candidates touch most rows anyway.
    """
    flat = [
        tf.zeros([tf.size(variable)]) if gradient is None else tf.reshape(tf.convert_to_tensor(gradient), [-1])
        for gradient, variable in zip(gradients, variables, strict=True)
    ]
    mean = hvd.allreduce(tf.concat(flat, axis=0), op=hvd.Average, compression=compression)
    parts = tf.split(mean, [variable.shape.num_elements() for variable in variables])
    return [tf.reshape(part, variable.shape) for part, variable in zip(parts, variables, strict=True)]


def _counts(batch: Batch) -> Any:
    """How many examples and sessions a batch holds, and how much strength: (3,)."""
    examples = tf.cast(tf.shape(batch.cuts.length)[0], tf.float32)
    sessions = tf.math.count_nonzero(batch.sessions.items, dtype=tf.float32)
    return tf.stack([examples, sessions, tf.reduce_sum(batch.targets.strength)])


def _optimizer(train: TrainConfig, steps_planned: int) -> Any:
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps_planned, alpha=0.05, warmup_target=learning_rate(train), warmup_steps=train.warm_up_steps
    )
    # Clipped inside the optimizer: after a scaled loss's gradients are scaled back.
    adam = keras.optimizers.Adam(schedule, beta_2=0.99, global_clipnorm=train.clip_norm)
    if train.precision != "mixed_float16":
        return adam
    # TensorFlow's own pass over the graph chooses the products that go to half precision, and leaves exponentials and
    # sums alone: the network needs to know nothing of it. On a CPU it changes nothing.
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": True})
    return keras.optimizers.LossScaleOptimizer(adam)
