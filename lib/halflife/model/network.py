"""The network in Keras 3: half-lives, item parameters and the jump of one event, beside the encoder.

lambda(u, i, t) = exp(b_i + sum_k d_k(t - tau_u) <p_uk, q_i>) + sum_k m_uik d_k(t - tau_ui), DESIGN section 2.
The encoder gives p_uk; the memory m is the decayed sum of the jumps.
"""

from __future__ import annotations

from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from halflife.decay import LN2
from halflife.model.architecture import ITEM_FEATURES, LONGEST_DAYS, PACE_FEATURES, SHORTEST_DAYS, Architecture
from halflife.model.content import ItemContent
from halflife.model.encoder import Encoder, Tensor, Weights, encoder_weights
from halflife.model.stretching import LEAST_STEP

STRETCH_PRIOR_EVENTS: Final = 20.0
# Where the slope of the order starts: at what ranks best by strengths of the likelihood alone (Complete Journey).
ORDER_SLOPE: Final = 1.3


class HalfLives(keras.layers.Layer):  # type: ignore[misc]
    """The K half-lives in days: positive by their logarithm, kept within 15 minutes and 2 years."""

    def __init__(self, start_days: tuple[float, ...], name: str = "half_lives") -> None:
        super().__init__(name=name)
        self.log_days = self.add_weight(
            name="log_days",
            shape=(len(start_days),),
            initializer=keras.initializers.Constant(np.log(start_days)),
        )

    def days(self) -> Tensor:
        """The half-lives, (K,)."""
        return tf.exp(tf.clip_by_value(self.log_days.value, np.log(SHORTEST_DAYS), np.log(LONGEST_DAYS)))


class ContentTower(keras.layers.Layer):  # type: ignore[misc]
    """A vector of d numbers from an item's content alone, so that an item nobody touched has one as well."""

    def __init__(self, architecture: Architecture, name: str) -> None:
        super().__init__(name=name)
        start = keras.initializers.RandomNormal(stddev=0.05)
        self.tables = {
            part: self.add_weight(name=part, shape=shape, initializer=start)
            for part, shape in architecture.tower_shapes().items()
        }

    def call(self, category: Tensor, buckets: Tensor, vectors: Tensor) -> Tensor:
        """Categories (...), buckets (..., F) and vectors (..., V) give (..., d)."""
        found = tf.gather(self.tables["category"].value, category)
        if "features" in self.tables:
            found += tf.reduce_sum(tf.gather(self.tables["features"].value, buckets), axis=-2)
        if "projection" in self.tables:
            found += tf.tensordot(vectors, self.tables["projection"].value, axes=1)
        return found


class ItemParameters(keras.layers.Layer):  # type: ignore[misc]
    """What is learned of each item, partly through its content; one more row stands for items not known in training.

    bias b_i, vector q_i, encoder input x_i, log-amplitude of the jumps and a few traits that shape them.
    """

    def __init__(self, architecture: Architecture, content: ItemContent, name: str = "items") -> None:
        super().__init__(name=name)
        rows, size = architecture.items + 1, architecture.vector_size
        self.content = [tf.constant(part) for part in (content.category, content.buckets, content.vectors)]
        self.bias = self.add_weight(name="bias", shape=(rows,), initializer="zeros")
        self.own_vectors = self._table("vectors", rows, size, 0.05)
        self.content_vectors = ContentTower(architecture, "content_vectors")
        self.own_inputs = self._table("inputs", rows, size, 0.05)
        self.content_inputs = ContentTower(architecture, "content_inputs")
        self.own_amplitude = self._table("log_amplitude", rows, 1, 0.0)
        self.category_amplitude = self._table("category_log_amplitude", architecture.categories, 1, 0.0)
        self.traits = self._table("traits", rows, architecture.item_traits, 0.01)
        self.propensity_power = self.add_weight(
            name="propensity_power", shape=(), initializer=keras.initializers.Constant(0.5)
        )
        self.features = self.add_weight(name="features", shape=(rows, ITEM_FEATURES), trainable=False)
        self.log_propensity = self.add_weight(name="log_propensity", shape=(rows,), trainable=False)

    def _table(self, name: str, rows: int, size: int, spread: float) -> Any:
        start = keras.initializers.RandomNormal(stddev=spread) if spread else "zeros"
        return self.add_weight(name=name, shape=(rows, size), initializer=start)

    def vectors(self, items: Tensor) -> Tensor:
        """q of the items: (n,) gives (n, d)."""
        return tf.gather(self.own_vectors.value, items) + self.content_vectors(*self._content(items))

    def inputs(self, items: Tensor) -> Tensor:
        """x of the items, of any shape (...): (..., d)."""
        return tf.gather(self.own_inputs.value, items) + self.content_inputs(*self._content(items))

    def log_amplitudes(self, items: Tensor) -> Tensor:
        """Logarithm of the factor of the items' jumps: repeat propensity to a learned power, times what is learned."""
        category = tf.gather(self.content[0], items)
        learned = tf.gather(self.own_amplitude.value, items) + tf.gather(self.category_amplitude.value, category)
        return learned[..., 0] + self.propensity_power.value * tf.gather(self.log_propensity.value, items)

    def jump_inputs(self, items: Tensor) -> Tensor:
        """What the jump's network sees of the items: (n, ITEM_FEATURES + traits)."""
        return tf.concat([tf.gather(self.features.value, items), tf.gather(self.traits.value, items)], axis=-1)

    def biases(self, items: Tensor) -> Tensor:
        """b of the items: (n,)."""
        return tf.gather(self.bias.value, items)

    def penalty(self) -> Tensor:
        """Sum of squares that shrinks each item towards its content and its propensity.

        What shapes an item's jumps is held shortest: a log has few sessions of most items, and an order of items is
        learned by heart where each has numbers of its own (Complete Journey: NDCG fell back to that of the start).
        A feature whose values are nearly as many as the items is held as short as the items' own vectors are.
        """
        parts = [(self.own_amplitude, 1e3), (self.category_amplitude, 1e2), (self.traits, 4e3), (self.own_vectors, 2.0)]
        parts += [(table, 2.0) for part, table in self.content_vectors.tables.items() if part == "features"]
        return tf.add_n([weight * tf.reduce_sum(tf.square(table.value)) for table, weight in parts])

    def folded(self) -> Weights:
        """The tables as scoring needs them, content added in; and the vectors' tower, for items that come later."""
        every = tf.range(self.own_vectors.shape[0])
        return {
            "items/bias": self.bias.numpy(),
            "items/vectors": self.vectors(every).numpy(),
            "items/inputs": self.inputs(every).numpy(),
            "items/log_amplitude": self.log_amplitudes(every).numpy(),
            "items/jump_inputs": self.jump_inputs(every).numpy(),
            **{f"content/{part}": table.numpy() for part, table in self.content_vectors.tables.items()},
        }

    def _content(self, items: Tensor) -> list[Tensor]:
        return [tf.gather(part, items) for part in self.content]


class Jump(keras.layers.Layer):  # type: ignore[misc]
    """Amplitude and channel mix of one event: K rates per day >= 0, from the event's own row only.

    It does not see the recurrent state, so that a late or deleted event changes its pair's memory by one addition
    (DESIGN property 2).
    """

    def __init__(self, architecture: Architecture, name: str = "jump") -> None:
        super().__init__(name=name)
        inputs = architecture.jump_inputs
        self.event_types = architecture.event_types
        self.share = 1.0 if architecture.memory else 0.0  # without memory every jump is zero
        self.hidden_kernel = self.add_weight(name="hidden_kernel", shape=(inputs, architecture.jump_units))
        self.hidden_bias = self.add_weight(name="hidden_bias", shape=(architecture.jump_units,), initializer="zeros")
        self.kernel = self.add_weight(
            name="kernel", shape=(architecture.jump_units, architecture.channels), initializer="zeros"
        )
        self.bias = self.add_weight(name="bias", shape=(architecture.channels,), initializer="zeros")

    def call(self, features: Tensor, types: Tensor, strength: Tensor, item_inputs: Tensor, amplitude: Tensor) -> Tensor:
        """(n, F), (n,), (n,), (n, G) and log-amplitudes (n,) give (n, K)."""
        kinds = tf.one_hot(types, self.event_types)
        hidden = tf.tanh(
            tf.matmul(tf.concat([features, kinds, item_inputs], axis=-1), self.hidden_kernel.value) + self.hidden_bias
        )
        rates = tf.matmul(hidden, self.kernel.value) + self.bias.value + amplitude[:, None]
        return self.share * tf.abs(strength)[:, None] * tf.exp(tf.minimum(rates, 10.0))


class Stretch(keras.layers.Layer):  # type: ignore[misc]
    """A user's stretch rho within -1..1, from the user's pace; towards 0 the fewer events it is known from.

    The user's half-lives are h_k 2^rho, out of those that all users share: see `stretching.stretched`. A model keeps
    each user's rho as of its training (training.stretch: there the whole history has its say), 0 for users who came
    later. One channel leaves nothing to stretch.
    """

    def __init__(self, name: str = "stretch") -> None:
        super().__init__(name=name)
        # No user is stretched at the start.
        self.pace_weights = self.add_weight(name="pace_weights", shape=(PACE_FEATURES,), initializer="zeros")

    def call(self, pace: Tensor, events: Tensor) -> Tensor:
        """Paces (n, PACE_FEATURES) and numbers of events (n,) give rho (n,)."""
        known = events / (events + STRETCH_PRIOR_EVENTS)
        return tf.tanh(tf.linalg.matvec(pace, self.pace_weights.value)) * known


def stretch_shares(rho: Tensor, half_lives_days: Tensor) -> Tensor:
    """The shares of `stretching.stretched`: rho (n,) and half-lives (K,) give (n, K, K), of channel j's jump in k."""
    logs = tf.math.log(half_lives_days) / LN2
    order = tf.argsort(logs, stable=True)
    scale = tf.gather(logs, order)
    steps = tf.maximum(scale[1:] - scale[:-1], LEAST_STEP)
    passed = tf.clip_by_value((rho[:, None, None] + logs[:, None] - scale[:-1]) / steps, 0.0, 1.0)
    ends = [[0, 0], [0, 0], [1, 0]], [[0, 0], [0, 0], [0, 1]]
    shares = tf.pad(passed, ends[0], constant_values=1.0) - tf.pad(passed, ends[1])
    return tf.gather(shares, tf.argsort(order), axis=2)


class Network(keras.Model):  # type: ignore[misc]
    """All that is trained, side by side; the losses put it together.

    `content` is that of the items and of the cold row behind them.
    `dropout` is the encoder's, in training only.
    """

    def __init__(self, architecture: Architecture, content: ItemContent, dropout: float = 0.0) -> None:
        super().__init__(name="network")
        self.architecture = architecture
        self.half_lives = HalfLives(architecture.half_lives_days)
        self.items = ItemParameters(architecture, content)
        self.jump = Jump(architecture)
        self.stretch = Stretch() if architecture.stretch else None
        self.encoder = Encoder(architecture, dropout)
        start = keras.initializers.Constant(np.log(ORDER_SLOPE))
        self.log_order_slope = self.add_weight(name="log_order_slope", shape=(), initializer=start)
        self.built = True

    def jumps(self, features: Tensor, items: Tensor, types: Tensor, strength: Tensor) -> Tensor:
        """Jumps of events, (n, K) >= 0, from features (n, F) and items, types and strengths (n,)."""
        return self.jump(features, types, strength, self.items.jump_inputs(items), self.items.log_amplitudes(items))

    def order_slope(self) -> Tensor:
        """What the loss of order multiplies logarithms of strengths by, a scalar: see `losses.strengths_and_order`."""
        return tf.exp(self.log_order_slope.value)

    def weights_for_scoring(self) -> Weights:
        """Every array that the nightly job needs, by name."""
        jump = {f"jump/{weight.name}": weight.numpy() for weight in self.jump.weights}
        half_lives = {"half_lives_days": self.half_lives.days().numpy()}
        return {**half_lives, **self.items.folded(), **jump, **encoder_weights(self.encoder)}
