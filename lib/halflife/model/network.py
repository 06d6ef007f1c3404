"""The network in Keras 3: half-lives, item parameters, the jump of one event, and the encoder.

lambda(u, i, t) = exp(b_i + sum_k d_k(t - tau_u) <p_uk, q_i>) + sum_k m_uik d_k(t - tau_ui), DESIGN section 2.
The encoder gives p_uk; the memory m is the decayed sum of the jumps.
"""

from __future__ import annotations

from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from halflife.decay import LN2
from halflife.model.architecture import ITEM_FEATURES, Architecture

Tensor = Any
Weights = dict[str, NDArray[np.float32]]

SHORTEST_DAYS: Final = 15 / 1_440
LONGEST_DAYS: Final = 730.0
MASKED: Final = -1e9


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


class ItemParameters(keras.layers.Layer):  # type: ignore[misc]
    """What is learned of each item, partly through its category; one more row stands for items not known in training.

    bias b_i, vector q_i, encoder input x_i, log-amplitude of the jumps and a few traits that shape them.
    """

    def __init__(self, architecture: Architecture, category: NDArray[np.int32], name: str = "items") -> None:
        super().__init__(name=name)
        rows, size = architecture.items + 1, architecture.vector_size
        self.category = tf.constant(category, dtype=tf.int32)
        self.bias = self.add_weight(name="bias", shape=(rows,), initializer="zeros")
        self.own_vectors = self._table("vectors", rows, size, 0.05)
        self.category_vectors = self._table("category_vectors", architecture.categories, size, 0.05)
        self.own_inputs = self._table("inputs", rows, size, 0.05)
        self.category_inputs = self._table("category_inputs", architecture.categories, size, 0.05)
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
        return self._with_category(self.own_vectors, self.category_vectors, items)

    def inputs(self, items: Tensor) -> Tensor:
        """x of the items, of any shape (...): (..., d)."""
        return self._with_category(self.own_inputs, self.category_inputs, items)

    def log_amplitudes(self, items: Tensor) -> Tensor:
        """Logarithm of the factor of the items' jumps: repeat propensity to a learned power, times what is learned."""
        learned = self._with_category(self.own_amplitude, self.category_amplitude, items)[..., 0]
        return learned + self.propensity_power.value * tf.gather(self.log_propensity.value, items)

    def jump_inputs(self, items: Tensor) -> Tensor:
        """What the jump's network sees of the items: (n, ITEM_FEATURES + traits)."""
        return tf.concat([tf.gather(self.features.value, items), tf.gather(self.traits.value, items)], axis=-1)

    def biases(self, items: Tensor) -> Tensor:
        """b of the items: (n,)."""
        return tf.gather(self.bias.value, items)

    def penalty(self) -> Tensor:
        """Sum of squares that shrinks each item towards its category and its propensity."""
        parts = [(self.own_amplitude, 1.0), (self.category_amplitude, 0.1), (self.traits, 4.0), (self.own_vectors, 2.0)]
        return tf.add_n([weight * tf.reduce_sum(tf.square(table.value)) for table, weight in parts])

    def folded(self) -> Weights:
        """The tables as scoring needs them, categories added in."""
        every = tf.range(self.own_vectors.shape[0])
        return {
            "items/bias": self.bias.numpy(),
            "items/vectors": self.vectors(every).numpy(),
            "items/inputs": self.inputs(every).numpy(),
            "items/log_amplitude": self.log_amplitudes(every).numpy(),
            "items/jump_inputs": self.jump_inputs(every).numpy(),
        }

    def _with_category(self, own: Any, shared: Any, items: Tensor) -> Tensor:
        return tf.gather(own.value, items) + tf.gather(shared.value, tf.gather(self.category, items))


class Jump(keras.layers.Layer):  # type: ignore[misc]
    """Amplitude and channel mix of one event: K rates per day >= 0, from the event's own row only.

    It does not see the recurrent state, so that a late or deleted event changes its pair's memory by one addition
    (DESIGN property 2).
    """

    def __init__(self, architecture: Architecture, name: str = "jump") -> None:
        super().__init__(name=name)
        inputs = architecture.jump_inputs
        self.event_types = architecture.event_types
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
        return tf.abs(strength)[:, None] * tf.exp(tf.minimum(rates, 10.0))


class Encoder(keras.Model):  # type: ignore[misc]
    """Stacked LSTM over the last L events, then one attention read-out a channel: p_uk, (B, K, d).

    Padding stands right of the valid entries: a causal LSTM never carries it into them, and attention gives it
    no weight. So the LSTM needs no mask, which keeps cuDNN's fast path open on a GPU.
    """

    def __init__(self, architecture: Architecture, name: str = "encoder") -> None:
        super().__init__(name=name)
        channels, size = architecture.channels, architecture.vector_size
        self.event_types = architecture.event_types
        self.project = keras.layers.Dense(architecture.lstm_units[0], name="project")
        self.recurrent = [
            keras.layers.LSTM(units, return_sequences=True, name=f"lstm_{place}")
            for place, units in enumerate(architecture.lstm_units, start=1)
        ]
        self.content = keras.layers.Dense(channels, name="content")
        last = architecture.lstm_units[-1]
        self.age_weight = self.add_weight(name="age_weight", shape=(channels,), initializer="zeros")
        self.from_state = self.add_weight(
            name="from_state", shape=(channels, last, size), initializer=keras.initializers.RandomNormal(stddev=0.1)
        )
        self.from_items = self.add_weight(name="from_items", shape=(channels, size, size), initializer="glorot_uniform")
        self.everyone = self.add_weight(name="everyone", shape=(channels, size), initializer="zeros")
        self._build(architecture)

    def _build(self, architecture: Architecture) -> None:
        self.project.build((None, None, architecture.encoder_inputs))
        for layer, units in zip(self.recurrent, (architecture.lstm_units[0], *architecture.lstm_units), strict=False):
            layer.build((None, None, units))
        self.content.build((None, None, architecture.lstm_units[-1]))
        self.built = True

    def call(
        self,
        inputs: Tensor,
        features: Tensor,
        types: Tensor,
        strength: Tensor,
        age_days: Tensor,
        length: Tensor,
        half_lives_days: Tensor,
    ) -> Tensor:
        """Item inputs (B, L, d), features (B, L, F), types, strengths and ages (B, L), lengths (B,) give (B, K, d).

        Ages are counted from the user's last event, so that nothing changes while nothing happens.
        """
        kinds = tf.one_hot(types, self.event_types)
        state = self.project(tf.concat([inputs, features, kinds, strength[..., None]], axis=-1))
        for layer in self.recurrent:
            state = layer(state)
        weights = self._attention(state, age_days, length, half_lives_days)
        states = tf.einsum("blk,blh->bkh", weights, state)
        items = tf.einsum("blk,bld->bkd", weights, inputs)
        read = tf.einsum("bkh,khd->bkd", states, self.from_state.value)
        return read + tf.einsum("bkd,kde->bke", items, self.from_items.value) + self.everyone.value

    def _attention(self, state: Tensor, age_days: Tensor, length: Tensor, half_lives_days: Tensor) -> Tensor:
        """Weights (B, L, K): content plus the channel's own decay of the age; all zero for a user without events."""
        fading = tf.exp(self.age_weight.value) * LN2 / half_lives_days
        logits = self.content(state) - age_days[..., None] * fading
        valid = tf.sequence_mask(length, tf.shape(age_days)[1])[..., None]
        weights = tf.nn.softmax(tf.where(valid, logits, MASKED), axis=1)
        return tf.where(valid, weights, 0.0)


class Network(keras.Model):  # type: ignore[misc]
    """All that is trained, side by side; the losses put it together."""

    def __init__(self, architecture: Architecture, category: NDArray[np.int32]) -> None:
        super().__init__(name="network")
        self.architecture = architecture
        self.half_lives = HalfLives(architecture.half_lives_days)
        self.items = ItemParameters(architecture, category)
        self.jump = Jump(architecture)
        self.encoder = Encoder(architecture)
        self.built = True

    def jumps(self, features: Tensor, items: Tensor, types: Tensor, strength: Tensor) -> Tensor:
        """Jumps of events, (n, K) >= 0, from features (n, F) and items, types and strengths (n,)."""
        return self.jump(features, types, strength, self.items.jump_inputs(items), self.items.log_amplitudes(items))

    def weights_for_scoring(self) -> Weights:
        """Every array that the nightly job needs, by name."""
        jump = {f"jump/{weight.name}": weight.numpy() for weight in self.jump.weights}
        half_lives = {"half_lives_days": self.half_lives.days().numpy()}
        return {**half_lives, **self.items.folded(), **jump, **encoder_weights(self.encoder)}


def encoder_weights(encoder: Encoder) -> Weights:
    """The encoder's arrays by their place in it, such as encoder/lstm_1/lstm_cell/kernel."""
    return {encoder_name(weight): weight.numpy() for weight in encoder.weights}


def encoder_name(weight: Any) -> str:
    """Name of one of the encoder's weights in a published model; Keras leaves the model's own name out of layers'."""
    return "encoder/" + str(weight.path).removeprefix("encoder/")
