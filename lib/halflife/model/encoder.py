"""The encoder in Keras 3: a stack of recurrent layers or causal transformer blocks, and a read-out a channel."""

from __future__ import annotations

from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from halflife.decay import LN2
from halflife.model.architecture import HEAD_SIZE, HEADS, Architecture
from halflife.model.recurrent import fused_lstm

Tensor = Any
Weights = dict[str, NDArray[np.float32]]

RECURRENT: Final = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
MASKED: Final = -3e4  # as good as none, and finite in half precision


class Encoder(keras.Model):  # type: ignore[misc]
    """A stack over the last L events, then one attention read-out a channel: p_uk, (B, K, d).

    Padding stands right of the valid entries: a causal layer never carries it into them, and attention gives it
    no weight. So no layer needs a mask, which keeps cuDNN's fast path open on a GPU; for the same reason dropout
    stands before each layer and never inside one.
    """

    def __init__(self, architecture: Architecture, dropout: float = 0.0, name: str = "encoder") -> None:
        super().__init__(name=name)
        channels, size, last = architecture.channels, architecture.vector_size, architecture.encoder_units[-1]
        self.event_types = architecture.event_types
        self.project = keras.layers.Dense(architecture.encoder_units[0], name="project")
        self.stack = [_layer(architecture.encoder, *place) for place in enumerate(architecture.layers(), start=1)]
        self.fused = architecture.encoder == "lstm" and not tf.config.get_visible_devices("GPU")
        self.dropout = [keras.layers.Dropout(dropout) for _ in self.stack]
        self.content = keras.layers.Dense(channels, name="content") if architecture.attention else None
        self.age_weight = None
        if architecture.attention and architecture.attention_age:
            self.age_weight = self.add_weight(name="age_weight", shape=(channels,), initializer="zeros")
        self.from_state = self.add_weight(
            name="from_state", shape=(channels, last, size), initializer=keras.initializers.RandomNormal(stddev=0.1)
        )
        self.from_items = self.add_weight(name="from_items", shape=(channels, size, size), initializer="glorot_uniform")
        self.everyone = self.add_weight(name="everyone", shape=(channels, size), initializer="zeros")
        self._build(architecture)

    def _build(self, architecture: Architecture) -> None:
        self.project.build((None, None, architecture.encoder_inputs))
        for layer, (inputs, _) in zip(self.stack, architecture.layers(), strict=True):
            layer.build((None, None, inputs))
        if self.content is not None:
            self.content.build((None, None, architecture.encoder_units[-1]))
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
        training: bool = False,
    ) -> Tensor:
        """Item inputs (B, L, d), features (B, L, F), types, strengths and ages (B, L), lengths (B,) give (B, K, d).

        Ages are counted from the user's last event, so that nothing changes while nothing happens.
        """
        kinds = tf.one_hot(types, self.event_types)
        state = self.project(tf.concat([inputs, features, kinds, strength[..., None]], axis=-1))
        state = self._stacked(state, age_days, training)
        weights = self._attention(state, age_days, length, half_lives_days)
        states = tf.einsum("blk,blh->bkh", weights, state)
        items = tf.einsum("blk,bld->bkd", weights, inputs)
        read = tf.einsum("bkh,khd->bkd", states, self.from_state.value)
        return read + tf.einsum("bkd,kde->bke", items, self.from_items.value) + self.everyone.value

    def _stacked(self, state: Tensor, age_days: Tensor, training: bool) -> Tensor:
        """What the stack makes of (B, L, units of the first layer): (B, L, units of the last)."""
        if self.fused:
            state = tf.transpose(state, [1, 0, 2])
            for dropout, layer in zip(self.dropout, self.stack, strict=True):
                state = fused_lstm(layer, dropout(state, training=training))
            return tf.transpose(state, [1, 0, 2])
        elapsed = tf.math.log1p(tf.maximum(age_days[:, None, :] - age_days[:, :, None], 0.0))
        for dropout, layer in zip(self.dropout, self.stack, strict=True):
            state = dropout(state, training=training)
            state = layer(state, elapsed) if isinstance(layer, CausalBlock) else layer(state)
        return state

    def _attention(self, state: Tensor, age_days: Tensor, length: Tensor, half_lives_days: Tensor) -> Tensor:
        """Weights (B, L, K): content plus the channel's own decay of the age; all zero for a user without events."""
        if self.content is None:  # the last event alone
            last = tf.one_hot(length - 1, tf.shape(age_days)[1])
            return tf.repeat(last[..., None], tf.shape(half_lives_days)[0], axis=2)
        logits = self.content(state)
        if self.age_weight is not None:
            fading = tf.exp(self.age_weight.value) * LN2 / half_lives_days
            logits -= age_days[..., None] * fading
        valid = tf.sequence_mask(length, tf.shape(age_days)[1])[..., None]
        weights = tf.nn.softmax(tf.where(valid, logits, MASKED), axis=1)
        return tf.where(valid, weights, 0.0)


class CausalBlock(keras.layers.Layer):  # type: ignore[misc]
    """One transformer block of its own width, which looks back only: (B, L, inputs) gives (B, L, units).

    Events have no positions: how far back one lies is the time `elapsed` between the two, ln(1 + days) as (B, L, L),
    which fades its logit at a pace that each head learns. Events of one instant stand beside each other.
    """

    def __init__(self, units: int, name: str) -> None:
        super().__init__(name=name)
        self.units = units

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Add the weights for inputs of the width `shape[-1]`."""
        units, heads = self.units, keras.initializers.RandomNormal(stddev=self.units**-0.5)
        self.into_kernel = self.add_weight(name="into_kernel", shape=(shape[-1], units))
        self.query_key_value = self.add_weight(
            name="query_key_value", shape=(3, HEADS, units, HEAD_SIZE), initializer=heads
        )
        self.out = self.add_weight(name="out", shape=(HEADS, HEAD_SIZE, units), initializer=heads)
        self.fading = self.add_weight(name="fading", shape=(HEADS,), initializer="zeros")
        self.hidden_kernel = self.add_weight(name="hidden_kernel", shape=(units, 2 * units))
        self.hidden_bias = self.add_weight(name="hidden_bias", shape=(2 * units,), initializer="zeros")
        self.kernel = self.add_weight(name="kernel", shape=(2 * units, units))
        self.bias = self.add_weight(name="bias", shape=(units,), initializer="zeros")
        self.built = True

    def call(self, state: Tensor, elapsed: Tensor) -> Tensor:
        """Attention to what came before, then a layer of each event by itself; each added to what was there."""
        state = _normed(tf.matmul(state, self.into_kernel.value))
        query, key, value = tf.unstack(tf.einsum("blu,chus->cblhs", state, self.query_key_value.value))
        logits = tf.einsum("blhs,bmhs->bhlm", query, key) * HEAD_SIZE**-0.5
        logits -= tf.exp(self.fading.value)[:, None, None] * elapsed[:, None]
        earlier = tf.linalg.band_part(tf.ones_like(logits, dtype=tf.bool), -1, 0)
        weights = tf.nn.softmax(tf.where(earlier, logits, MASKED))
        state = _normed(state + tf.einsum("bhlm,bmhs,hsu->blu", weights, value, self.out.value))
        hidden = tf.nn.relu(tf.matmul(state, self.hidden_kernel.value) + self.hidden_bias.value)
        return _normed(state + tf.matmul(hidden, self.kernel.value) + self.bias.value)


def _layer(kind: str, place: int, widths: tuple[int, int]) -> Any:
    name, units = f"{kind}_{place}", widths[1]
    return RECURRENT[kind](units, return_sequences=True, name=name) if kind in RECURRENT else CausalBlock(units, name)


def _normed(state: Tensor) -> Tensor:
    """Each event's units brought to mean 0 and variance 1."""
    mean, variance = tf.nn.moments(state, axes=[-1], keepdims=True)
    return (state - mean) * tf.math.rsqrt(variance + 1e-6)


def encoder_weights(encoder: Encoder) -> Weights:
    """The encoder's arrays by their place in it, such as encoder/lstm_1/lstm_cell/kernel."""
    return {encoder_name(weight): weight.numpy() for weight in encoder.weights}


def encoder_name(weight: Any) -> str:
    """Name of one of the encoder's weights in a published model; Keras leaves the model's own name out of layers'."""
    return "encoder/" + str(weight.path).removeprefix("encoder/")
