"""Keras' LSTM by TensorFlow's fused kernel on a CPU, where Keras runs a graph of small operations for every event.

Same weights, same numbers up to rounding. A step of the default model on Complete Journey's users took one core .19 s
in the encoder by Keras' loop, of it 35 ms however few the users: that share no second rank can halve. On a GPU Keras
itself calls a fused kernel, cuDNN's.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


def fused_lstm(layer: Any, inputs: Tensor) -> Tensor:
    """What a built `keras.layers.LSTM` makes of `inputs`, time first: (L, B, inputs) gives (L, B, units)."""
    cell = layer.cell
    kernel = tf.concat([cell.kernel.value, cell.recurrent_kernel.value], axis=0)
    rows = tf.shape(inputs)[1]
    # Without a row the kernel would leave its gradients unwritten (whatever stood in memory): then one of zeros.
    inputs = tf.pad(inputs, [[0, 0], [0, tf.cast(rows == 0, tf.int32)], [0, 0]])
    nothing = tf.zeros([tf.maximum(rows, 1), layer.units])
    no_peephole = tf.zeros([layer.units])
    # BlockLSTMV2 has Keras' order of gates, but TensorFlow gives it the gradient of this one (2.18, rnn_grad.py).
    outputs = tf.raw_ops.BlockLSTM(
        seq_len_max=tf.shape(inputs, out_type=tf.int64)[0],
        x=inputs,
        cs_prev=nothing,
        h_prev=nothing,
        w=_reordered(kernel),
        wci=no_peephole,
        wcf=no_peephole,
        wco=no_peephole,
        b=_reordered(cell.bias.value),
        forget_bias=0.0,
        cell_clip=-1.0,
    ).h
    return outputs[:, :rows]


def _reordered(gates: Tensor) -> Tensor:
    """Input, forget, candidate, output gates as input, candidate, forget, output."""
    entry, forget, candidate, out = tf.split(gates, 4, axis=-1)
    return tf.concat([entry, candidate, forget, out], axis=-1)
