"""What training makes small, and the expected strengths over a horizon that it is made of.

The target is the interest strength y: the positive strength of a user's events with an item within the horizon. The
network expects Lambda, the integral of its intensity. Losses are sums over a batch; `training_loss` weighs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import tensorflow as tf

from halflife.decay import LN2
from halflife.model.batch import Batch, Pairs, Sessions, Targets
from halflife.model.encoder import Tensor
from halflife.model.features import EncoderInput
from halflife.model.network import Network, stretch_shares

# Keeps the logarithm finite where an item has neither popularity nor memory.
LEAST_STRENGTH = 1e-9
# Ranks that count, and the best items of a cut that are compared with one another.
CUTOFF = 10
RANKED = 40
# Stands behind every logarithm of a strength, so far that comparing with it costs nothing.
PADDING = -1e3


class Losses(NamedTuple):
    """Sums over a batch: negative log-likelihood, expected and observed strength."""

    likelihood: Tensor
    expected: Tensor
    observed: Tensor


class Errors(NamedTuple):
    """Sums over all pairs of a batch: squared and absolute error of the expected strength, and squared strength."""

    squared: Tensor
    absolute: Tensor
    observed_squared: Tensor


class TrainingLoss(NamedTuple):
    """Sums over a batch, each with its weight: the losses of strengths, and that of the next session's order."""

    strengths: Tensor
    order: Tensor


class Expected(NamedTuple):
    """Strengths expected over the horizon: what all losses share.

    Sums over the candidates, each with its weight: affinity and its square, (C,). Of the pairs that have memory: their
    affinity and memory, (P,). Of the targets: affinity, memory, and their item's weight among the candidates, (Y,).
    `totals` are the sums of Lambda over all items, (C,).
    """

    affinity: Tensor
    affinity_squared: Tensor
    pair_affinity: Tensor
    pair_memory: Tensor
    target_affinity: Tensor
    target_memory: Tensor
    target_weight: Tensor
    totals: Tensor

    @property
    def pair_strength(self) -> Tensor:
        """Lambda of the pairs that have memory, (P,)."""
        return tf.nn.relu(self.pair_affinity + self.pair_memory)

    @property
    def target_strength(self) -> Tensor:
        """Lambda of the targets, (Y,)."""
        return tf.maximum(self.target_affinity + self.target_memory, LEAST_STRENGTH)


def decay_integral(age_days: Tensor, half_lives_days: Tensor, horizon_days: float) -> Tensor:
    """h / ln 2 * (2^(-a/h) - 2^(-(a+H)/h)) in TensorFlow: ages (n,) and half-lives (K,) give (n, K) in days."""
    rates = LN2 / half_lives_days
    lost = -tf.math.expm1(-horizon_days * rates)
    return tf.exp(-age_days[:, None] * rates) / rates * lost


def user_readouts(network: Network, cuts: EncoderInput, training: bool = False) -> Tensor:
    """p_uk of each cut, (C, K, d); what is padding in every row is cut off first."""
    longest = tf.maximum(tf.reduce_max(cuts.length), 1)
    padded = (cuts.item, cuts.features, cuts.type, cuts.strength, cuts.age_days)
    item, *others = (tf.convert_to_tensor(column)[:, :longest] for column in padded)
    return network.encoder(
        network.items.inputs(item),
        *others,
        cuts.length,
        network.half_lives.days(),
        training=training,
    )


def user_vectors(network: Network, cuts: EncoderInput, training: bool = False) -> Tensor:
    """sum_k d_k p_uk half a horizon after each cut, (C, d): the midpoint rule of the affinity's integral."""
    return _vectors_at(network, user_readouts(network, cuts, training), cuts.days_since_last)


def _vectors_at(network: Network, readouts: Tensor, days_since_last: Tensor) -> Tensor:
    """The same at times so many days after the users' last events."""
    ages = days_since_last + network.architecture.horizon_days / 2
    return tf.einsum("ck,ckd->cd", _faded(network, ages), readouts)


def pair_channels(network: Network, batch: Batch) -> Tensor:
    """Expected strength from memory of each (cut, item) pair over the horizon, negative events subtracted: (P, K)."""
    jumps, decayed = _terms(network, batch)
    if network.stretch is None:
        return _of_pairs(jumps * decayed, batch)
    rho = network.stretch(batch.users.pace, batch.users.events)
    shares = tf.gather(stretch_shares(rho, network.half_lives.days()), batch.pairs.cut)
    return tf.reduce_sum(_decayed_as_any(jumps, decayed, batch) * shares, axis=1)


def _terms(network: Network, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of each (cut, event): the signed jumps of a user without a stretch, and the integrals of their decay, (M, K)."""
    history = batch.history
    jumps = network.jumps(history.features, history.item, history.type, history.strength)
    signed = tf.sign(history.strength)[:, None] * jumps
    decayed = decay_integral(history.term_age_days, network.half_lives.days(), network.architecture.horizon_days)
    return tf.gather(signed, history.term_event), decayed


def _decayed_as_any(jumps: Tensor, decayed: Tensor, batch: Batch) -> Tensor:
    """What each pair's jumps in channel j add up to with the decay of channel k, [j, k] of (P, K, K).

    A channel at a time: all at once would take K times the memory of the terms.
    """
    parts = tf.unstack(jumps, axis=1)
    return tf.stack([_of_pairs(part[:, None] * decayed, batch) for part in parts], axis=1)


def _of_pairs(terms: Tensor, batch: Batch) -> Tensor:
    """Sums of terms (M, ...) over each (cut, item) pair, (P, ...)."""
    return tf.math.unsorted_segment_sum(terms, batch.history.term_pair, tf.shape(batch.pairs.cut)[0])


def stretched_likelihoods(network: Network, batch: Batch, stretches: Tensor) -> Tensor:
    """Log-likelihood of what follows each cut, had its user each of the `stretches` (G,): (C, G).

    Up to what is the same for all stretches: what affinity adds to all items.
    """
    jumps, decayed = _terms(network, batch)
    shares = stretch_shares(stretches, network.half_lives.days())
    memory = tf.einsum("pjk,gjk->pg", _decayed_as_any(jumps, decayed, batch), shares)
    vectors, targets, pairs = user_vectors(network, batch.cuts), batch.targets, batch.pairs
    affinity = _affinity(network, vectors, targets.cut, targets.item)
    remembered = tf.gather(tf.pad(memory, [[0, 1], [0, 0]]), targets.pair)
    logs = tf.math.log(tf.maximum(affinity[:, None] + remembered, LEAST_STRENGTH))
    observed = tf.math.unsorted_segment_sum(targets.strength[:, None] * logs, targets.cut, tf.shape(vectors)[0])
    return observed - _memory_of_cuts(network, pairs, vectors, memory)


def expected_over_horizon(
    network: Network, batch: Batch, candidates: Tensor, candidate_weights: Tensor, training: bool = False
) -> Expected:
    """Expected strengths of a batch. `candidates` are all items, each of weight 1, or a sample with weights.

    A graph prunes what its loss does not use: the squares and the pairs' affinity, say, for the likelihood.
    """
    readouts = user_readouts(network, batch.cuts, training)
    return _expected(network, batch, readouts, pair_channels(network, batch), candidates, candidate_weights)


def _expected(
    network: Network, batch: Batch, readouts: Tensor, channels: Tensor, candidates: Tensor, candidate_weights: Tensor
) -> Expected:
    vectors = _vectors_at(network, readouts, batch.cuts.days_since_last)
    memory = tf.reduce_sum(channels, axis=1)
    horizon = network.architecture.horizon_days
    logits = tf.matmul(vectors, network.items.vectors(candidates), transpose_b=True) + network.items.biases(candidates)
    rates = tf.exp(logits)
    # One product instead of a weighted sum over an exp: the matrix is the largest array of a step.
    affinity = horizon * tf.linalg.matvec(rates, candidate_weights)
    weights = tf.scatter_nd(candidates[:, None], candidate_weights, [network.architecture.items + 1])
    return Expected(
        affinity=affinity,
        affinity_squared=horizon**2 * tf.linalg.matvec(tf.square(rates), candidate_weights),
        pair_affinity=_affinity(network, vectors, batch.pairs.cut, batch.pairs.item),
        pair_memory=memory,
        target_affinity=_affinity(network, vectors, batch.targets.cut, batch.targets.item),
        target_memory=tf.gather(tf.concat([memory, [0.0]], axis=0), batch.targets.pair),
        target_weight=tf.gather(weights, batch.targets.item),
        totals=affinity + _memory_of_cuts(network, batch.pairs, vectors, memory),
    )


def point_process(
    network: Network, batch: Batch, candidates: Tensor, candidate_weights: Tensor, training: bool = False
) -> Losses:
    """Poisson likelihood of the strengths in the horizon after each cut: sum_i Lambda_i - sum_i y_i log Lambda_i.

    The sum over items is a product over `candidates` with their weights (all items, or a weighted sample: an
    unbiased estimate); the memory's part is exact. A proper score, so that Lambda comes out as the expected
    strength. (Daley & Vere-Jones, An Introduction to the Theory of Point Processes, chapter 7.)
    """
    return losses_of(expected_over_horizon(network, batch, candidates, candidate_weights, training), batch.targets)


def training_loss(
    network: Network,
    batch: Batch,
    candidates: Tensor,
    candidate_weights: Tensor,
    loss: Mapping[str, float],
    training: bool = True,
    ranking_weight: Tensor | None = None,
) -> TrainingLoss:
    """The weighted sum of the losses named in `loss` over a batch, see `LOSSES`, and that of `ranking`."""
    expected, order = strengths_and_order(network, batch, candidates, candidate_weights, training)
    # All that is trained has a gradient: of zero, what the order alone looks at.
    of_order = 0.0 * network.order_slope() if ranking_weight is None else ranking_weight * order
    return TrainingLoss(weighted(expected, batch.targets, loss), of_order)


def strengths_and_order(
    network: Network, batch: Batch, candidates: Tensor, candidate_weights: Tensor, training: bool = False
) -> tuple[Expected, Tensor]:
    """Expected strengths of a batch, and its summed loss of `ranking`: all that training and validation look at.

    The order has a slope of its own, learned beside the strengths: an item is in a session with odds that are no
    multiple of its strength but of a power of it, and without the slope the order stretches strengths until they are.
    NDCG@10, R2 and loss a user on the validation days of Complete Journey, after three epochs with a small encoder: the
    likelihood alone .241, .053, 83.4; with the order .249, .004, 83.8; with the order and its slope .248, .051, 83.5.
    The tuned half-life: .230, and 84.7.
    """
    readouts, channels = user_readouts(network, batch.cuts, training), pair_channels(network, batch)
    expected = _expected(network, batch, readouts, channels, candidates, candidate_weights)
    cut = tf.gather(batch.pairs.cut, batch.sessions.pair)
    logs = network.order_slope() * tf.math.log(session_strengths(network, batch, readouts, channels))
    return expected, tf.reduce_sum(ranking(logs, cut, batch.sessions))


def weighted(expected: Expected, targets: Targets, loss: Mapping[str, float]) -> Tensor:
    """The weighted sum of the losses named in `loss` over a batch, a scalar: see `LOSSES`."""
    return tf.add_n([weight * LOSSES[name](expected, targets) for name, weight in loss.items()])


def losses_of(expected: Expected, targets: Targets) -> Losses:
    """The likelihood, and the sums of both strengths that show its calibration."""
    return Losses(_likelihood(expected, targets), tf.reduce_sum(expected.totals), tf.reduce_sum(targets.strength))


def errors(expected: Expected, targets: Targets) -> Errors:
    """Errors of the strengths over all pairs, without a matrix of them.

    Every pair counts as one with affinity alone and nothing observed, whose sums the candidates give; those with
    memory or targets are put right one by one.
    """
    remembered = tf.shape(expected.pair_affinity)[0]
    observed = tf.math.unsorted_segment_sum(targets.strength, targets.pair, remembered + 1)[:-1]
    paired = expected.pair_strength - observed
    new = tf.cast(targets.pair == remembered, tf.float32)
    surprise = expected.target_affinity - targets.strength
    squared = [
        tf.reduce_sum(expected.affinity_squared),
        tf.reduce_sum(tf.square(paired) - tf.square(expected.pair_affinity)),
        tf.reduce_sum(new * (tf.square(surprise) - tf.square(expected.target_affinity))),
    ]
    absolute = [
        tf.reduce_sum(expected.affinity),
        tf.reduce_sum(tf.abs(paired) - expected.pair_affinity),
        tf.reduce_sum(new * (tf.abs(surprise) - expected.target_affinity)),
    ]
    return Errors(tf.add_n(squared), tf.add_n(absolute), tf.reduce_sum(tf.square(targets.strength)))


def expected_strengths(network: Network, batch: Batch, items: Tensor) -> Tensor:
    """Lambda of every cut and every item 0..n-1, (C, n): affinity plus memory, as the nightly job computes it."""
    vectors = user_vectors(network, batch.cuts)
    logits = tf.matmul(vectors, network.items.vectors(items), transpose_b=True) + network.items.biases(items)
    affinity = network.architecture.horizon_days * tf.exp(logits)
    memory = tf.reduce_sum(pair_channels(network, batch), axis=1)
    places = tf.stack([batch.pairs.cut, batch.pairs.item], axis=1)
    return tf.nn.relu(tf.tensor_scatter_nd_add(affinity, places, memory))


def session_strengths(network: Network, batch: Batch, readouts: Tensor, channels: Tensor) -> Tensor:
    """Lambda of `batch.sessions.pair` over a horizon from the start of the cut's next session, (S,), never zero.

    Its gradient reaches memory only: affinity is for the likelihood to learn.
    """
    delay = batch.sessions.delay_days
    pair = batch.sessions.pair
    cut, item = tf.gather(batch.pairs.cut, pair), tf.gather(batch.pairs.item, pair)
    memory = tf.reduce_sum(tf.gather(channels, pair) * tf.gather(_faded(network, delay), cut), axis=1)
    vectors = _vectors_at(network, readouts, batch.cuts.days_since_last + delay)
    return tf.maximum(tf.stop_gradient(_affinity(network, vectors, cut, item)) + memory, LEAST_STRENGTH)


def ranking(logs: Tensor, cut: Tensor, sessions: Sessions) -> Tensor:
    """How badly `logs` (S,) of strengths rank what each cut's next session holds, (C,): LambdaRank's loss of NDCG@10.

    Over pairs of an item i that the session holds and one j that it does not, both among the RANKED strongest of
    the cut: sum |D_i - D_j| / ideal * softplus(logs_j - logs_i), where D is the discount of an item's present rank and
    ideal the best sum of discounts. (Burges, From RankNet to LambdaRank to LambdaMART, 2010.)
    """
    logs = _rows_of_cuts(logs, cut, sessions, PADDING)
    holds = _rows_of_cuts(sessions.holds, cut, sessions, 0.0)
    best = tf.math.top_k(tf.stop_gradient(logs), tf.minimum(RANKED, tf.shape(logs)[1]))[1]
    logs, holds = tf.gather(logs, best, batch_dims=1), tf.gather(holds, best, batch_dims=1)
    discount = _discounts(tf.shape(best)[1])
    hits = tf.range(CUTOFF, dtype=tf.float32) < sessions.items[:, None]
    ideal = tf.reduce_sum(tf.where(hits, _discounts(CUTOFF), 0.0), axis=1)
    swaps = tf.abs(discount[:, None] - discount) * holds[:, :, None] * (1 - holds)[:, None, :]
    losses = swaps * tf.nn.softplus(logs[:, None, :] - logs[:, :, None])
    return tf.math.divide_no_nan(tf.reduce_sum(losses, axis=[1, 2]), ideal)


def _rows_of_cuts(values: Tensor, cut: Tensor, sessions: Sessions, padding: float) -> Tensor:
    """Values (S,) as a row a cut, filled up with `padding`."""
    rows = tf.cast(tf.shape(sessions.items)[0], tf.int64)
    ragged = tf.RaggedTensor.from_value_rowids(values, tf.cast(cut, tf.int64), nrows=rows)
    return ragged.to_tensor(default_value=padding)


def _discounts(ranks: Tensor) -> Tensor:
    """1 / log2(rank + 1) of the ranks 1..CUTOFF, then 0: (ranks,)."""
    rank = tf.range(1, ranks + 1)
    return tf.where(rank <= CUTOFF, LN2 / tf.math.log1p(tf.cast(rank, tf.float32)), 0.0)


def _likelihood(expected: Expected, targets: Targets) -> Tensor:
    logs = tf.math.log(expected.target_strength)
    return tf.reduce_sum(expected.totals) - tf.reduce_sum(targets.strength * logs)


def _squared_error(expected: Expected, targets: Targets) -> Tensor:
    return errors(expected, targets).squared


def _sampled_softmax(expected: Expected, targets: Targets) -> Tensor:
    """Which items the strength goes to, whatever its sum: -sum_i y_i log(Lambda_i / sum_j Lambda_j).

    A candidate stands for 1/Q items where Q is its chance to be sampled: weights inside the sum are the logQ correction
    of the logits. A target counts exactly once, sampled or not. Says nothing of the scale: alone it leaves scores
    uncalibrated. (Bengio & Senecal, Adaptive Importance Sampling, 2008.)
    """
    others = tf.gather(expected.totals, targets.cut) - expected.target_weight * expected.target_affinity
    logs = tf.math.log(tf.maximum(others + expected.target_affinity, LEAST_STRENGTH))
    return tf.reduce_sum(targets.strength * (logs - tf.math.log(expected.target_strength)))


# By their names in the config. The likelihood is the one of scores that come out calibrated.
LOSSES: Final[Mapping[str, Callable[[Expected, Targets], Tensor]]] = {
    "point_process": _likelihood,
    "mse": _squared_error,
    "sampled_softmax": _sampled_softmax,
}


def _affinity(network: Network, vectors: Tensor, cut: Tensor, item: Tensor) -> Tensor:
    products = tf.reduce_sum(tf.gather(vectors, cut) * network.items.vectors(item), axis=1)
    return network.architecture.horizon_days * tf.exp(products + network.items.biases(item))


def _faded(network: Network, ages_days: Tensor) -> Tensor:
    """d_k of ages (C,): (C, K)."""
    return tf.exp(-ages_days[:, None] * LN2 / network.half_lives.days())


def _memory_of_cuts(network: Network, pairs: Pairs, vectors: Tensor, memory: Tensor) -> Tensor:
    """What memory (P, ...) adds to the expected strength of each cut, (C, ...): never more than affinity is taken away.

    Only pairs with negative events can go below zero; the affinity of the others is not needed.
    """
    chosen, cuts = pairs.with_negative, tf.shape(vectors)[0]
    affinity = _affinity(network, vectors, tf.gather(pairs.cut, chosen), tf.gather(pairs.item, chosen))
    strength = tf.gather(memory, chosen)
    strength += tf.reshape(affinity, tf.concat([[-1], tf.ones_like(tf.shape(memory)[1:])], axis=0))
    clipped = tf.math.unsorted_segment_sum(tf.nn.relu(-strength), tf.gather(pairs.cut, chosen), cuts)
    return tf.math.unsorted_segment_sum(memory, pairs.cut, cuts) + clipped
