"""The network against closed forms, brute force and the nightly job's own arithmetic."""

from __future__ import annotations

import importlib
from typing import Any, get_args

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from halflife.config import LossName
from halflife.decay import decay_integral
from halflife.model import artifact, forward, losses
from halflife.model.architecture import Architecture
from halflife.model.artifact import Model
from halflife.model.batch import Batch
from halflife.model.content import ItemContent
from halflife.model.features import encoder_input
from halflife.model.network import ORDER_SLOPE, Network, stretch_shares
from halflife.model.recurrent import fused_lstm
from halflife.model.stretching import stretched
from halflife.scoring import pairs
from halflife.training.batches import batch_of
from halflife.training.examples import COLUMNS, History, history_of, pace
from halflife.training.initial import law_log_rates
from training_log import AS_OF, BEGIN, DAY, ITEMS, row_of, user_events

LENGTH = 16
AT = BEGIN + 80 * DAY
GAPS = ("gap_log", "revisit_gap_log")
ARCHITECTURE = Architecture(
    items=12,
    event_types=2,
    categories=3,
    half_lives_days=(1.0, 7.0, 90.0),
    horizon_days=7.0,
    sequence_length=LENGTH,
    vector_size=5,
    encoder_units=(8, 6),
    jump_units=7,
    item_traits=3,
)


VARIANTS = {
    "lstm": ARCHITECTURE,
    "gru": ARCHITECTURE.model_copy(update={"encoder": "gru"}),
    "transformer": ARCHITECTURE.model_copy(update={"encoder": "transformer"}),
    "last state": ARCHITECTURE.model_copy(update={"attention": False}),
    "no age": ARCHITECTURE.model_copy(update={"attention_age": False}),
    "no memory": ARCHITECTURE.model_copy(update={"memory": False}),
    "stretch": ARCHITECTURE.model_copy(update={"stretch": True}),
    "one channel": ARCHITECTURE.model_copy(update={"half_lives_days": (30.0,)}),
}


def network_of(architecture: Architecture, dropout: float = 0.0) -> Network:
    """A network with weights away from where training starts, so that every term counts."""
    keras.utils.set_random_seed(5)
    network = Network(architecture, ItemContent.of_categories(np.array([0, 1, 2] * 4 + [0], dtype=np.int32)), dropout)
    rng = np.random.default_rng(5)
    for variable in network.trainable_variables:
        variable.assign(variable.numpy() + rng.normal(scale=0.2, size=variable.shape))
    network.items.bias.assign(rng.normal(-4.0, 1.0, size=13))
    network.jump.bias.assign(law_log_rates(architecture.half_lives_days, 30.0, 0.5))
    return network


@pytest.fixture(scope="module", params=VARIANTS)
def network(request: pytest.FixtureRequest) -> Network:
    return network_of(VARIANTS[request.param])


@pytest.fixture(scope="module")
def model(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The network as published at AT, to which the stretches of the first users belong."""
    directory = tmp_path_factory.mktemp("models") / "model"
    stretch = stretches_of(network, [history(user, AT) for user in range(4)])
    artifact.save(
        directory,
        architecture=network.architecture,
        weights=network.weights_for_scoring(),
        items=ITEMS,
        event_types=["purchase", "cancel"],
        as_of_seconds=AS_OF,
        metrics={},
        config={},
        stretch=stretch,
    )
    return artifact.load(directory)


def stretches_of(network: Network, histories: list[History]) -> Any:
    """Stretches of users as training takes them, from their pace; None where the network has none."""
    if network.stretch is None:
        return None
    paces = np.concatenate([pace(history, np.array([len(history)])) for history in histories])
    return network.stretch(paces, np.array([len(history) for history in histories], dtype=np.float32)).numpy()


def history(user: int, before: float = AS_OF) -> History:
    return history_of({**row_of(user_events(user)), "user_index": user}, before)


def sequences(users: list[int], lengths: list[int]) -> dict[str, Any]:
    """Right-padded columns of the users' first `lengths` events."""
    padded = {name: np.zeros((len(users), LENGTH), dtype=kind) for name, kind in COLUMNS.items()}
    for row, (user, length) in enumerate(zip(users, lengths, strict=True)):
        for name, column in user_events(user).items():
            padded[name][row, :length] = column[:length]
    return {**padded, "length": np.asarray(lengths)}


def test_published_arrays_have_the_expected_shapes(network: Network) -> None:
    shapes = {name: array.shape for name, array in network.weights_for_scoring().items()}
    assert shapes == network.architecture.shapes_for_scoring()


@pytest.mark.parametrize("age", [0.0, 0.3, 12.0, 400.0])
def test_integral_of_decay_in_tensorflow(age: float) -> None:
    half_lives = [1 / 96, 1.0, 7.0, 730.0]
    found = losses.decay_integral(tf.constant([age]), tf.constant(half_lives), 7.0).numpy()
    np.testing.assert_allclose(found[0], decay_integral(age, half_lives, 7.0), rtol=2e-4, atol=1e-30)
    grid = age + (np.arange(200_000) + 0.5) * 7.0 / 200_000
    numeric = [np.exp2(-grid / half_life).mean() * 7.0 for half_life in half_lives]
    np.testing.assert_allclose(found[0], numeric, rtol=1e-3, atol=1e-30)


def test_jumps_of_numpy_and_tensorflow_agree(network: Network, model: Model) -> None:
    events = history(1)
    found = model.jumps(event_columns(1))
    expected = network.jumps(*_jump_inputs(events)).numpy()
    if network.stretch is not None:
        rho = stretches_of(network, [history(1, AT)])
        assert abs(rho[0]) > 0.01
        shares = stretch_shares(np.repeat(rho, len(expected)), network.half_lives.days()).numpy()
        expected = np.einsum("nj,njk->nk", expected, shares)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (found > 0).all() == network.architecture.memory


def test_users_who_came_after_training_have_no_stretch(network: Network, model: Model) -> None:
    found = model.jumps({**event_columns(1), "user_index": np.full(len(history(1)), 7)})
    np.testing.assert_allclose(found, network.jumps(*_jump_inputs(history(1))), rtol=1e-4)


@pytest.mark.parametrize("half_lives", [[1.0, 4.0, 30.0], [4.0, 1.0, 30.0], [7.0], [2.0, 2.0, 5.0]], ids=str)
def test_shares_of_a_stretch_in_numpy_and_tensorflow_agree(half_lives: list[float]) -> None:
    rho = np.linspace(-3, 3, 25, dtype=np.float32)
    found = stretch_shares(rho, tf.constant(half_lives)).numpy()
    for channel, jump in enumerate(np.eye(len(half_lives))):
        expected = stretched(np.tile(jump, (len(rho), 1)), rho, np.array(half_lives))
        np.testing.assert_allclose(found[:, channel], expected, atol=2e-6)


def test_start_is_the_classical_law() -> None:
    half_lives = (1.0, 30.0, 90.0, 180.0)
    rates = np.exp(law_log_rates(half_lives, 90.0, 0.4))
    # An event is followed by 0.4 events in all, nearly all of them through the channel of 90 days.
    followed = rates * np.array(half_lives) / np.log(2)
    assert followed.sum() == pytest.approx(0.4, rel=1e-5)
    assert followed[2] == pytest.approx(0.4, rel=0.05)


def some_batch() -> Batch:
    """Users with two cuts and users with one early one, whose targets are new to them.

    Negative events are strong enough to take some pairs below zero, where strengths are clipped.
    """
    cuts = [*[np.array([BEGIN + 40 * DAY, BEGIN + 70 * DAY])] * 4, *[np.array([BEGIN + 15 * DAY])] * 4]
    batch = batch_of([history(user) for user in range(8)], cuts, LENGTH, 7.0)
    strength = np.where(batch.history.strength < 0, np.float32(-30), batch.history.strength)
    return batch._replace(history=batch.history._replace(strength=strength))


def test_likelihood_is_that_of_the_expected_strengths(network: Network) -> None:
    batch = some_batch()
    everything = tf.range(12)
    expected = losses.expected_strengths(network, batch, everything).numpy().astype(np.float64)
    assert (expected == 0).any() == network.architecture.memory
    found = losses.point_process(network, batch, everything, tf.ones(12))
    observed = batch.targets.strength
    logs = np.log(np.maximum(expected[batch.targets.cut, batch.targets.item], losses.LEAST_STRENGTH))
    assert float(found.expected) == pytest.approx(expected.sum(), rel=1e-4)
    assert float(found.observed) == observed.sum()
    assert float(found.likelihood) == pytest.approx(expected.sum() - observed @ logs, rel=1e-4)


def all_pairs(network: Network, batch: Batch) -> tuple[Any, Any]:
    """Expected and observed strength of every cut and item, (C, I)."""
    expected = losses.expected_strengths(network, batch, tf.range(12)).numpy().astype(np.float64)
    observed = np.zeros_like(expected)
    observed[batch.targets.cut, batch.targets.item] = batch.targets.strength
    return expected, observed


def test_errors_are_those_of_all_pairs(network: Network) -> None:
    batch = some_batch()
    expected, observed = all_pairs(network, batch)
    assert (batch.targets.pair == len(batch.pairs.item)).any()  # a target without memory counts as well
    found = losses.errors(losses.expected_over_horizon(network, batch, tf.range(12), tf.ones(12)), batch.targets)
    assert float(found.squared) == pytest.approx(np.square(expected - observed).sum(), rel=1e-4)
    assert float(found.absolute) == pytest.approx(np.abs(expected - observed).sum(), rel=1e-4)
    assert float(found.observed_squared) == pytest.approx(np.square(observed).sum(), rel=1e-5)


def test_softmax_over_all_items_is_the_share_of_expected_strength(network: Network) -> None:
    batch = some_batch()
    expected, observed = all_pairs(network, batch)
    share = np.maximum(expected, losses.LEAST_STRENGTH) / expected.sum(axis=1, keepdims=True)
    chosen = expected[batch.targets.cut, batch.targets.item] > 0
    targets = batch.targets._replace(**{n: getattr(batch.targets, n)[chosen] for n in batch.targets._fields})
    observed[expected == 0] = 0
    found = losses.training_loss(
        network, batch._replace(targets=targets), tf.range(12), tf.ones(12), {"sampled_softmax": 1.0}, training=False
    )
    assert float(found.strengths) == pytest.approx(-(observed * np.log(share)).sum(), rel=1e-4)


@pytest.mark.parametrize(("loss", "accuracy"), [("point_process", 0.02), ("mse", 0.05), ("sampled_softmax", 0.05)])
def test_sampled_losses_are_on_average_those_of_all_items(loss: str, accuracy: float) -> None:
    network, batch, rng = network_of(ARCHITECTURE), some_batch(), np.random.default_rng(3)
    whole = losses.training_loss(network, batch, tf.range(12), tf.ones(12), {loss: 1.0}, training=False).strengths
    sample = tf.function(
        lambda items: losses.training_loss(network, batch, items, tf.fill([8], 1.5), {loss: 1.0}, training=False)[0]
    )
    found = [float(sample(tf.constant(rng.choice(12, 8, replace=False), tf.int32))) for _ in range(300)]
    assert np.std(found) > 0
    assert np.mean(found) == pytest.approx(float(whole), rel=accuracy)


def test_losses_add_up_by_their_weights_and_reach_all_that_is_trained(network: Network) -> None:
    batch, every = some_batch(), (tf.range(12), tf.ones(12))
    single = {name: losses.training_loss(network, batch, *every, {name: 1.0}).strengths for name in losses.LOSSES}
    weights = {"point_process": 1.0, "mse": 0.5, "sampled_softmax": 2.0}
    with tf.GradientTape() as tape:
        total = sum(losses.training_loss(network, batch, *every, weights))
    assert float(total) == pytest.approx(
        sum(float(single[name]) * weight for name, weight in weights.items()), rel=1e-5
    )
    gradients = tape.gradient(total, [variable.value for variable in network.trainable_variables])
    assert all(gradient is not None for gradient in gradients)
    assert all(np.isfinite(tf.convert_to_tensor(gradient).numpy()).all() for gradient in gradients)
    assert float(losses.point_process(network, batch, *every).likelihood) == float(single["point_process"])


def test_every_loss_of_the_config_is_there() -> None:
    assert set(losses.LOSSES) == set(get_args(LossName))


def test_training_and_the_nightly_job_expect_the_same(network: Network, model: Model) -> None:
    events = event_columns(2)
    known = {name: column[events["event_seconds"] < AT] for name, column in events.items()}
    batch = batch_of([history(2)], [np.array([AT])], LENGTH, 7.0)
    trained = losses.expected_strengths(network, batch, tf.range(12)).numpy()
    last = {name: known[name][None, -LENGTH:] for name in COLUMNS}
    readouts = model.encode(last | {"length": np.array([LENGTH])})
    jumps = model.jumps(known)
    states = pairs.States(
        readouts=readouts,
        anchor_seconds=known["event_seconds"][-1:],
        user=np.zeros(len(jumps), dtype=np.int32),
        item=known["item_index"],
        pair_seconds=known["event_seconds"],
        positive=jumps * (known["strength"] > 0)[:, None],
        negative=jumps * (known["strength"] < 0)[:, None],
    )
    side, when, half_lives = model.item_side(12), np.array([AT]), model.half_lives_days
    nightly = pairs.affinity(states, when, half_lives, 7.0, side.vectors, side.bias)[0]
    np.add.at(nightly, states.item, pairs.memory(states, when, half_lives, 7.0).astype(np.float32))
    np.testing.assert_allclose(np.maximum(nightly, 0), trained[0], rtol=1e-3, atol=1e-5)


def event_columns(user: int) -> dict[str, Any]:
    """A user's events in the columns of the events table."""
    columns = user_events(user)
    seen, (gap, again) = columns["revisit_count"] > 0, (np.expm1(columns[n].astype(np.float64)) for n in GAPS)
    whose = np.full(len(seen), user)
    return {**columns, "gap_seconds": gap, "revisit_gap_seconds": np.where(seen, again, np.nan), "user_index": whose}


def _jump_inputs(events: History) -> tuple[Any, ...]:
    return events.jump_features, events.item, events.type, events.strength


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(0, LENGTH), min_size=1, max_size=5),
    others=st.integers(0, 2 * forward.ROWS),
    noise=st.integers(1, 10),
)
def test_neither_padding_nor_company_changes_a_read_out(
    model: Model, lengths: list[int], others: int, noise: int
) -> None:
    users = list(range(len(lengths)))
    columns = sequences(users, lengths)
    alone = model.encode(columns)
    padding = np.arange(LENGTH) >= columns["length"][:, None]
    dirty = {n: np.where(padding, noise, c) if c.ndim == 2 and n != "type_index" else c for n, c in columns.items()}
    np.testing.assert_array_equal(model.encode(dirty), alone)
    company = sequences([user % 3 for user in range(others)] + users, [LENGTH] * others + lengths)
    np.testing.assert_array_equal(model.encode(company)[others:], alone)


def test_the_forward_pass_is_that_of_keras(network: Network, model: Model) -> None:
    columns = sequences(list(range(6)), [0, 1, 8, 9, 15, LENGTH])
    seen = encoder_input(columns)
    inputs, half_lives = network.items.inputs(seen.item), network.half_lives.days()
    keras_readouts = network.encoder(
        inputs, seen.features, seen.type, seen.strength, seen.age_days, seen.length, half_lives
    ).numpy()
    np.testing.assert_allclose(model.encode(columns), keras_readouts, atol=1e-5)


def test_attention_is_shared_out_among_a_users_events(model: Model) -> None:
    columns = sequences([0, 1, 2], [0, 5, LENGTH])
    weights = model.attention(columns)
    padding = np.arange(LENGTH) >= columns["length"][:, None]
    assert (weights >= 0).all()
    assert (weights[padding] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=1)[:, 0], [0, 1, 1], atol=1e-6)


def test_the_read_out_of_a_prefix_is_blind_for_what_follows(model: Model) -> None:
    prefix, whole = sequences([1], [6]), sequences([1], [12])
    blind = {**whole, "length": np.array([6])}
    np.testing.assert_array_equal(model.encode(prefix), model.encode(blind))


def test_what_stands_behind_the_last_event_is_never_read(network: Network) -> None:
    """By the encoder itself: the columns that it is given elsewhere are zero there."""
    cuts = batch_of([history(1)], [np.array([AS_OF])], LENGTH, 7.0).cuts
    clean = [np.where(np.arange(LENGTH).reshape(1, -1, *[1] * (c.ndim - 2)) < 6, c, 0) for c in cuts if c.ndim > 1]
    inputs, half_lives = network.items.inputs, network.half_lives.days()
    item, *dirty = [column for column in cuts if column.ndim > 1]
    read = [
        network.encoder(inputs(first), features, kind, strength, age, np.array([6], dtype=np.int32), half_lives)
        for first, kind, strength, features, age in ((item, *dirty), clean)
    ]
    np.testing.assert_allclose(read[0], read[1], rtol=1e-5, atol=1e-6)


def test_users_without_events_share_one_read_out(model: Model) -> None:
    readouts = model.encode(sequences([1, 2], [0, 0]))
    np.testing.assert_array_equal(readouts[0], readouts[1])
    assert np.isfinite(readouts).all()


def test_dropout_is_for_training_only_and_never_inside_a_layer() -> None:
    plain, dropping = network_of(ARCHITECTURE), network_of(ARCHITECTURE, dropout=0.5)
    for variable, value in zip(dropping.trainable_variables, plain.trainable_variables, strict=True):
        variable.assign(value)
    cuts = some_batch().cuts
    np.testing.assert_array_equal(losses.user_vectors(dropping, cuts), losses.user_vectors(plain, cuts))
    trained = [losses.user_vectors(dropping, cuts, training=True).numpy() for _ in range(2)]
    assert np.abs(trained[0] - trained[1]).max() > 0
    assert all(layer.dropout == layer.recurrent_dropout == 0 for layer in dropping.encoder.stack)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_layers_take_the_fast_path_of_cudnn(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras is made to believe in a GPU: its own conditions must lead every layer to the cuDNN operation, unmasked."""
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None: ["a GPU"])
    rnn = importlib.import_module("keras.src.backend.tensorflow.rnn")
    masks = []

    def noted(*arguments: Any) -> Any:
        masks.append(arguments[-4])
        raise tf.errors.NotFoundError(None, None, "no cuDNN here")

    monkeypatch.setattr(rnn, "_is_gpu_available", lambda: True)
    monkeypatch.setattr(rnn, f"_cudnn_{kind}", noted)
    network = network_of(VARIANTS[kind], dropout=0.2)
    losses.user_vectors(network, some_batch().cuts, training=True)
    assert masks == [None] * len(network.encoder.stack)


def test_the_fused_lstm_has_the_values_and_gradients_of_keras() -> None:
    layer = keras.layers.LSTM(6, return_sequences=True)
    layer.build((None, None, 5))
    rng = np.random.default_rng(3)
    layer.cell.bias.assign(rng.normal(size=24))
    inputs, upstream = (tf.constant(rng.normal(size=(7, 9, width)), tf.float32) for width in (5, 6))
    weights, found = [weight.value for weight in layer.weights], []
    for call in (layer, lambda rows: tf.transpose(fused_lstm(layer, tf.transpose(rows, [1, 0, 2])), [1, 0, 2])):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = call(inputs)
        found.append([outputs, *tape.gradient(outputs, [inputs, *weights], upstream)])
    for fused, plain in zip(*found, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-5)


def test_the_fused_lstm_has_no_gradient_where_it_has_no_rows() -> None:
    """Its kernel leaves the gradient unwritten then, with whatever stood in memory."""
    layer = keras.layers.LSTM(16, return_sequences=True)
    layer.build((None, None, 16))
    for _ in range(20):
        junk = [tf.fill(weight.shape, np.float32(np.nan)) for weight in layer.weights for _ in range(4)]
        del junk
        with tf.GradientTape() as tape:
            outputs = tf.reduce_sum(fused_lstm(layer, tf.zeros([3, 0, 16])))
        for gradient in tape.gradient(outputs, [weight.value for weight in layer.weights]):
            np.testing.assert_array_equal(gradient, tf.zeros_like(gradient))


def test_items_of_one_category_share_what_is_learned_of_it(network: Network) -> None:
    items = pd.Series([1, 4])  # both toys
    own = network.items.own_vectors.numpy()[items]
    shared = network.items.vectors(tf.constant(items)).numpy() - own
    np.testing.assert_allclose(shared[0], shared[1], rtol=1e-5, atol=1e-6)


def test_a_session_is_ranked_by_what_is_expected_at_its_start(network: Network) -> None:
    cuts = [np.array([BEGIN + 40.0 * DAY, BEGIN + 60.0 * DAY]), np.array([BEGIN + 55.0 * DAY])]
    batch = batch_of([history(1), history(2)], cuts, LENGTH, 7.0)
    starts = np.concatenate(cuts) + batch.sessions.delay_days.astype(np.float64) * DAY - 1.0
    at_start = batch_of([history(1), history(1), history(2)], list(starts[:, None]), LENGTH, 7.0)
    expected = losses.expected_strengths(network, at_start, tf.range(12)).numpy()
    pair = batch.sessions.pair
    readouts, channels = losses.user_readouts(network, batch.cuts), losses.pair_channels(network, batch)
    found = losses.session_strengths(network, batch, readouts, channels).numpy()
    places = batch.pairs.cut[pair], batch.pairs.item[pair]
    np.testing.assert_allclose(found, np.maximum(expected[places], losses.LEAST_STRENGTH), rtol=1e-3, atol=1e-6)


def test_the_order_has_a_slope_of_its_own_that_changes_no_strength() -> None:
    network, batch, every = network_of(ARCHITECTURE), some_batch(), (tf.range(12), tf.ones(12))
    strengths, order = losses.strengths_and_order(network, batch, *every)
    network.log_order_slope.assign(np.log(1.5 * ORDER_SLOPE))
    same, steeper = losses.strengths_and_order(network, batch, *every)
    assert float(network.order_slope()) == pytest.approx(1.5 * ORDER_SLOPE, rel=1e-5)
    assert float(steeper) != pytest.approx(float(order), rel=1e-3)
    for one, other in zip(strengths, same, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_the_order_of_a_session_is_learned_by_memory_alone(network: Network) -> None:
    batch, every = some_batch(), (tf.range(12), tf.ones(12))

    def gradients(ranking_weight: float | None) -> list[np.ndarray[Any, Any]]:
        with tf.GradientTape() as tape:
            loss = losses.training_loss(
                network, batch, *every, {"point_process": 1.0}, training=False, ranking_weight=ranking_weight
            )
        found = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
        return [tf.convert_to_tensor(gradient).numpy() for gradient in found]

    changed = {
        variable.path
        for variable, plain, ranked in zip(network.trainable_variables, gradients(None), gradients(3.0), strict=True)
        if np.abs(ranked - plain).max() > 1e-4 * (1 + np.abs(plain).max())
    }
    affinity = ("encoder", "items/bias", "vectors", "inputs")
    assert not [path for path in changed if any(part in path for part in affinity)]
    if network.architecture.memory:
        assert {"network/jump/kernel", "jump/kernel"} & changed
