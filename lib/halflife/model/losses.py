"""The point-process likelihood over a horizon, and the expected strengths it is made of."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from halflife.decay import LN2
from halflife.model.batch import Batch, EventTable
from halflife.model.features import EncoderInput
from halflife.model.network import Network, Tensor

# Keeps the logarithm finite where an item has neither popularity nor memory.
LEAST_STRENGTH = 1e-9


class Losses(NamedTuple):
    """Sums over a batch: negative log-likelihood, expected and observed strength."""

    likelihood: Tensor
    expected: Tensor
    observed: Tensor


def decay_integral(age_days: Tensor, half_lives_days: Tensor, horizon_days: float) -> Tensor:
    """h / ln 2 * (2^(-a/h) - 2^(-(a+H)/h)) in TensorFlow: ages (n,) and half-lives (K,) give (n, K) in days."""
    rates = LN2 / half_lives_days
    lost = -tf.math.expm1(-horizon_days * rates)
    return tf.exp(-age_days[:, None] * rates) / rates * lost


def user_vectors(network: Network, cuts: EncoderInput) -> Tensor:
    """sum_k d_k p_uk half a horizon after each cut, (C, d): the midpoint rule of the affinity's integral."""
    half_lives = network.half_lives.days()
    readouts = network.encoder(
        network.items.inputs(cuts.item),
        cuts.features,
        cuts.type,
        cuts.strength,
        cuts.age_days,
        cuts.length,
        half_lives,
    )
    ages = cuts.days_since_last + network.architecture.horizon_days / 2
    faded = tf.exp(-ages[:, None] * LN2 / half_lives)
    return tf.einsum("ck,ckd->cd", faded, readouts)


def pair_memory(network: Network, history: EventTable, pairs: Tensor) -> Tensor:
    """Expected strength from memory of each (cut, item) pair over the horizon, (pairs,), negative events subtracted."""
    jumps = network.jumps(history.features, history.item, history.type, history.strength)
    signed = tf.sign(history.strength)[:, None] * jumps
    weights = decay_integral(history.term_age_days, network.half_lives.days(), network.architecture.horizon_days)
    terms = tf.reduce_sum(tf.gather(signed, history.term_event) * weights, axis=1)
    return tf.math.unsorted_segment_sum(terms, history.term_pair, pairs)


def point_process(network: Network, batch: Batch, candidates: Tensor, candidate_weights: Tensor) -> Losses:
    """Poisson likelihood of the strengths in the horizon after each cut: sum_i Lambda_i - sum_i y_i log Lambda_i.

    The sum over items is a product over `candidates` with their weights (all items, or a weighted sample: an
    unbiased estimate); the memory's part is exact. A proper score, so that Lambda comes out as the expected
    strength. (Daley & Vere-Jones, An Introduction to the Theory of Point Processes, chapter 7.)
    """
    horizon = network.architecture.horizon_days
    vectors = user_vectors(network, batch.cuts)
    logits = tf.matmul(vectors, network.items.vectors(candidates), transpose_b=True) + network.items.biases(candidates)
    # One product instead of a weighted sum over an exp: the matrix is the largest array of a step.
    total = horizon * tf.reduce_sum(tf.linalg.matvec(tf.exp(logits), candidate_weights))
    memory = pair_memory(network, batch.history, tf.shape(batch.pairs.cut)[0])
    expected = total + tf.reduce_sum(memory) + _never_below_zero(network, batch, vectors, memory)
    affinity = horizon * tf.exp(_affinity_logits(network, vectors, batch.targets.cut, batch.targets.item))
    remembered = tf.gather(tf.concat([memory, [0.0]], axis=0), batch.targets.pair)
    logs = tf.math.log(tf.maximum(affinity + remembered, LEAST_STRENGTH))
    likelihood = expected - tf.reduce_sum(batch.targets.strength * logs)
    return Losses(likelihood, expected, tf.reduce_sum(batch.targets.strength))


def expected_strengths(network: Network, batch: Batch, items: Tensor) -> Tensor:
    """Lambda of every cut and every item 0..n-1, (C, n): affinity plus memory, as the nightly job computes it."""
    vectors = user_vectors(network, batch.cuts)
    logits = tf.matmul(vectors, network.items.vectors(items), transpose_b=True) + network.items.biases(items)
    affinity = network.architecture.horizon_days * tf.exp(logits)
    memory = pair_memory(network, batch.history, tf.shape(batch.pairs.cut)[0])
    places = tf.stack([batch.pairs.cut, batch.pairs.item], axis=1)
    return tf.nn.relu(tf.tensor_scatter_nd_add(affinity, places, memory))


def _affinity_logits(network: Network, vectors: Tensor, cut: Tensor, item: Tensor) -> Tensor:
    products = tf.reduce_sum(tf.gather(vectors, cut) * network.items.vectors(item), axis=1)
    return products + network.items.biases(item)


def _never_below_zero(network: Network, batch: Batch, vectors: Tensor, memory: Tensor) -> Tensor:
    """What clipping affinity + memory at zero adds to the sum; only pairs with negative events can need it."""
    chosen = batch.pairs.with_negative
    cut, item = tf.gather(batch.pairs.cut, chosen), tf.gather(batch.pairs.item, chosen)
    logits = _affinity_logits(network, vectors, cut, item)
    strength = network.architecture.horizon_days * tf.exp(logits) + tf.gather(memory, chosen)
    return tf.reduce_sum(tf.nn.relu(strength) - strength)
