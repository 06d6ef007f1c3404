"""Batches as TensorFlow sees them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from halflife.training.batches import batch_of


def batch_specs(sequence_length: int) -> Any:
    """Types and shapes of a batch, of any size, for tf.function: one trace serves every step."""
    empty = batch_of([], [], sequence_length, 1.0)
    return tf.nest.map_structure(lambda array: tf.TensorSpec([None, *array.shape[1:]], array.dtype), empty)
