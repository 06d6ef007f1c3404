"""The encoder as the nightly job calls it: compiled once, always with the same shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from halflife.model.architecture import Architecture
from halflife.model.encoder import Encoder, Tensor, encoder_name
from halflife.model.features import EncoderInput, Matrix

EncodeBlock = Callable[[EncoderInput, int], Matrix]


def compiled_encoder(architecture: Architecture, weights: Mapping[str, Matrix]) -> EncodeBlock:
    """A function of at most `rows` rows of encoder input, and `rows`, that gives their read-outs."""
    encoder = Encoder(architecture)
    for weight in encoder.weights:
        weight.assign(weights[encoder_name(weight)])
    item_inputs = tf.constant(weights["items/inputs"])
    half_lives = tf.constant(weights["half_lives_days"])

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def encode(block: EncoderInput) -> Tensor:
        inputs = tf.gather(item_inputs, block.item)
        return encoder(inputs, block.features, block.type, block.strength, block.age_days, block.length, half_lives)

    def encode_block(block: EncoderInput, rows: int) -> Matrix:
        count = len(block.length)
        filled = EncoderInput(*(tf.constant(_filled(column, rows)) for column in block))
        readouts: Matrix = encode(filled).numpy()[:count]
        return readouts

    return encode_block


def _filled(column: NDArray[np.generic], rows: int) -> NDArray[np.generic]:
    missing = rows - len(column)
    return np.pad(column, [(0, missing), *[(0, 0)] * (column.ndim - 1)])
