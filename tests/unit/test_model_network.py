"""The network against closed forms, brute force and the nightly job's own arithmetic."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from halflife.decay import decay_integral
from halflife.model import artifact, losses
from halflife.model.architecture import Architecture
from halflife.model.artifact import Model
from halflife.model.network import Network
from halflife.scoring import pairs
from halflife.training.examples import COLUMNS, History, batch_of, history_of
from halflife.training.initial import law_log_rates
from training_log import AS_OF, BEGIN, DAY, ITEMS, row_of, user_events

LENGTH = 16
ARCHITECTURE = Architecture(
    items=12,
    event_types=2,
    categories=3,
    half_lives_days=(1.0, 7.0, 90.0),
    horizon_days=7.0,
    sequence_length=LENGTH,
    vector_size=5,
    lstm_units=(8, 6),
    jump_units=7,
    item_traits=3,
)


@pytest.fixture(scope="module")
def network() -> Network:
    """A network with weights away from where training starts, so that every term counts."""
    keras.utils.set_random_seed(5)
    network = Network(ARCHITECTURE, np.array([0, 1, 2] * 4 + [0], dtype=np.int32))
    rng = np.random.default_rng(5)
    for variable in network.trainable_variables:
        variable.assign(variable.numpy() + rng.normal(scale=0.2, size=variable.shape))
    network.items.bias.assign(rng.normal(-4.0, 1.0, size=13))
    network.jump.bias.assign(law_log_rates(ARCHITECTURE.half_lives_days, 30.0, 0.5))
    return network


@pytest.fixture(scope="module")
def model(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("models") / "model"
    artifact.save(
        directory,
        architecture=ARCHITECTURE,
        weights=network.weights_for_scoring(),
        items=ITEMS,
        event_types=["purchase", "cancel"],
        as_of_seconds=AS_OF,
        metrics={},
        config={},
    )
    return artifact.load(directory)


def history(user: int) -> History:
    return history_of(row_of(user_events(user), 64), AS_OF)


def sequences(users: list[int], lengths: list[int]) -> dict[str, Any]:
    """Right-padded columns of the users' first `lengths` events."""
    rows = []
    for user, length in zip(users, lengths, strict=True):
        columns = {name: column[:length] for name, column in user_events(user).items()}
        rows.append(row_of(columns, LENGTH))
    return {name: np.stack([row[name] for row in rows]) for name in (*COLUMNS, "length")}


def test_published_arrays_have_the_expected_shapes(network: Network) -> None:
    shapes = {name: array.shape for name, array in network.weights_for_scoring().items()}
    assert shapes == ARCHITECTURE.shapes_for_scoring()


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
    columns = user_events(1)
    seen = columns["revisit_count"] > 0
    found = model.jumps(
        {
            **{name: columns[name] for name in ("item_index", "type_index", "strength", "session_position")},
            "revisit_count": columns["revisit_count"],
            "gap_seconds": np.expm1(columns["gap_log"].astype(np.float64)),
            "revisit_gap_seconds": np.where(seen, np.expm1(columns["revisit_gap_log"].astype(np.float64)), np.nan),
        }
    )
    expected = network.jumps(events.jump_features, events.item, events.type, events.strength)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)
    assert (found > 0).all()


def test_start_is_the_classical_law() -> None:
    half_lives = (1.0, 30.0, 90.0, 180.0)
    rates = np.exp(law_log_rates(half_lives, 90.0, 0.4))
    # An event is followed by 0.4 events in all, nearly all of them through the channel of 90 days.
    followed = rates * np.array(half_lives) / np.log(2)
    assert followed.sum() == pytest.approx(0.4, rel=1e-5)
    assert followed[2] == pytest.approx(0.4, rel=0.05)


def test_likelihood_is_that_of_the_expected_strengths(network: Network) -> None:
    users = [history(user) for user in range(4)]
    cuts = [np.array([BEGIN + 40 * DAY, BEGIN + 70 * DAY])] * 4
    batch = batch_of(users, cuts, LENGTH, 7.0)
    everything = tf.range(12)
    expected = losses.expected_strengths(network, batch, everything).numpy().astype(np.float64)
    assert len(batch.pairs.with_negative)
    found = losses.point_process(network, batch, everything, tf.ones(12))
    observed = batch.targets.strength
    logs = np.log(np.maximum(expected[batch.targets.cut, batch.targets.item], losses.LEAST_STRENGTH))
    assert float(found.expected) == pytest.approx(expected.sum(), rel=1e-4)
    assert float(found.observed) == observed.sum()
    assert float(found.likelihood) == pytest.approx(expected.sum() - observed @ logs, rel=1e-4)


def test_training_and_the_nightly_job_expect_the_same(network: Network, model: Model) -> None:
    at = BEGIN + 80 * DAY
    known = {name: column[user_events(2)["event_seconds"] < at] for name, column in user_events(2).items()}
    batch = batch_of([history(2)], [np.array([at])], LENGTH, 7.0)
    trained = losses.expected_strengths(network, batch, tf.range(12)).numpy()
    last = {name: column[-LENGTH:] for name, column in known.items()}
    readouts = model.encode({name: column[None] for name, column in last.items()} | {"length": np.array([LENGTH])})
    jumps = network.jumps(*(array[: len(known["strength"])] for array in _jump_inputs(history(2)))).numpy()
    states = pairs.States(
        readouts=readouts,
        anchor_seconds=known["event_seconds"][-1:],
        user=np.zeros(len(jumps), dtype=np.int32),
        item=known["item_index"],
        pair_seconds=known["event_seconds"],
        positive=jumps * (known["strength"] > 0)[:, None],
        negative=jumps * (known["strength"] < 0)[:, None],
    )
    side, when, half_lives = model.item_side(12), np.array([at]), model.half_lives_days
    nightly = pairs.affinity(states, when, half_lives, 7.0, side.vectors, side.bias)[0]
    np.add.at(nightly, states.item, pairs.memory(states, when, half_lives, 7.0).astype(np.float32))
    np.testing.assert_allclose(np.maximum(nightly, 0), trained[0], rtol=1e-3, atol=1e-5)


def _jump_inputs(events: History) -> tuple[Any, ...]:
    return events.jump_features, events.item, events.type, events.strength


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(0, LENGTH), min_size=1, max_size=5),
    noise=st.integers(1, 10),
)
def test_neither_padding_nor_company_changes_a_read_out(model: Model, lengths: list[int], noise: int) -> None:
    users = list(range(len(lengths)))
    columns = sequences(users, lengths)
    together = model.encode(columns, rows_per_call=4)
    padding = np.arange(LENGTH) >= columns["length"][:, None]
    dirty = {n: np.where(padding, noise, c) if c.ndim == 2 and n != "type_index" else c for n, c in columns.items()}
    np.testing.assert_array_equal(model.encode(dirty, rows_per_call=4), together)
    for user in users:
        alone = model.encode({name: column[user : user + 1] for name, column in columns.items()}, rows_per_call=4)
        np.testing.assert_array_equal(alone[0], together[user])


def test_the_read_out_of_a_prefix_is_blind_for_what_follows(model: Model) -> None:
    prefix, whole = sequences([1], [6]), sequences([1], [12])
    blind = {**whole, "length": np.array([6])}
    np.testing.assert_array_equal(model.encode(prefix), model.encode(blind))


def test_users_without_events_share_one_read_out(model: Model) -> None:
    readouts = model.encode(sequences([1, 2], [0, 0]))
    np.testing.assert_array_equal(readouts[0], readouts[1])
    assert np.isfinite(readouts).all()


def test_items_of_one_category_share_what_is_learned_of_it(network: Network) -> None:
    items = pd.Series([1, 4])  # both toys
    own = network.items.own_vectors.numpy()[items]
    shared = network.items.vectors(tf.constant(items)).numpy() - own
    np.testing.assert_allclose(shared[0], shared[1], rtol=1e-5, atol=1e-6)
