"""What a user's own history says of the user's stretch."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from halflife.decay import LN2
from halflife.model import losses
from halflife.model.architecture import PACE_FEATURES, Architecture
from halflife.model.content import ItemContent
from halflife.model.network import Network
from halflife.training.batches import batch_of
from halflife.training.examples import History, history_of
from halflife.training.initial import count_items, start_network
from halflife.training.stretch import Stretches, windows
from training_log import AS_OF, BEGIN, DAY, ITEMS, columns_of, row_of, user_events

ARCHITECTURE = Architecture(
    items=12,
    event_types=2,
    categories=3,
    half_lives_days=(1.0, 7.0, 60.0),
    horizon_days=7.0,
    sequence_length=16,
    vector_size=4,
    lstm_units=(6, 5),
    jump_units=5,
    item_traits=2,
    stretch=True,
)


@pytest.fixture(scope="module")
def network() -> Network:
    """Popularity, and a memory of which each channel has a third."""
    keras.utils.set_random_seed(5)
    content = ItemContent.of_categories(np.array([0, 1, 2] * 4 + [0], dtype=np.int32))
    network = Network(ARCHITECTURE, content)
    start_network(network, count_items([history(user) for user in range(20)], len(ITEMS), AS_OF), 7.0)
    network.jump.bias.assign(np.log(0.2 * LN2 / np.array(ARCHITECTURE.half_lives_days)))
    return network


def history(user: int) -> History:
    return history_of({**row_of(user_events(user)), "user_index": user}, AS_OF)


def returning(user: int, days: list[float]) -> History:
    """A user who finds a new item every 10 days, and comes back to it so many days later."""
    starts = np.arange(8) * 10.0
    seconds = (starts[:, None] + np.array([0.0, *days])).ravel()
    item = np.repeat(np.arange(8), 1 + len(days))
    order = np.argsort(seconds, kind="stable")
    columns = columns_of(BEGIN + seconds[order] * DAY, item[order], np.ones(len(seconds)))
    return history_of({**row_of(columns), "user_index": user}, AS_OF)


def test_who_comes_back_late_has_a_larger_stretch_than_who_comes_back_at_once(network: Network) -> None:
    users, stretch = Stretches(network).of([returning(4, [1.0, 2.0, 3.0]), returning(2, [9.0, 16.0, 23.0])], AS_OF)
    assert users.tolist() == [4, 2]
    fast, slow = stretch
    assert fast < slow - 0.1
    assert (np.abs(stretch) < 1).all()


def test_where_little_is_known_the_stretch_is_small_and_without_events_there_is_none(network: Network) -> None:
    few = History({name: column[:2] for name, column in returning(1, [9.0]).columns.items()}, 1)
    none = History({name: column[:0] for name, column in few.columns.items()}, 3)
    users, stretch = Stretches(network).of([none, few], few.seconds[-1] + 8 * DAY)
    assert users.tolist() == [1]
    assert abs(stretch[0]) < 0.2


def test_what_happens_after_the_night_changes_no_stretch(network: Network) -> None:
    night, stretches = BEGIN + 60 * DAY, Stretches(network)
    network.stretch.pace_weights.assign(np.full(PACE_FEATURES, 0.3))
    whole = [history(user) for user in range(6)]
    known = [user.before(night) for user in whole]
    assert all(len(seen) < len(user) for seen, user in zip(known, whole, strict=True))
    _, found = stretches.of(whole, night)
    np.testing.assert_array_equal(found, stretches.of(known, night)[1])
    # Without what is known of the last days there is another answer, so the night is looked at up to its end.
    assert not np.allclose(found, stretches.of(whole, night - 14 * DAY)[1])
    network.stretch.pace_weights.assign(np.zeros(PACE_FEATURES))


def test_likelihoods_of_stretches_differ_as_the_loss_does(network: Network) -> None:
    """The loss of a network whose users have a stretch, by the long way round: the pace decides it."""
    users = [history(user) for user in range(6)]
    cuts = [np.array([BEGIN + 50 * DAY, BEGIN + 71 * DAY]) for _ in users]
    batch = batch_of(users, cuts, ARCHITECTURE.sequence_length, ARCHITECTURE.horizon_days)
    everything, ones = tf.range(len(ITEMS)), tf.ones(len(ITEMS))
    # A pace of one large number: rho is the tangent of the weight times it, and the shrinkage is gone.
    known = batch._replace(
        users=batch.users._replace(
            pace=np.eye(1, PACE_FEATURES, dtype=np.float32).repeat(12, axis=0),
            events=np.full(12, 1e9, dtype=np.float32),
        )
    )
    rhos = np.array([-0.6, 0.0, 0.4], dtype=np.float32)
    found = tf.reduce_sum(losses.stretched_likelihoods(network, batch, tf.constant(rhos)), axis=0).numpy()
    expected = []
    for rho in rhos:
        network.stretch.pace_weights.assign([np.arctanh(rho), *[0.0] * (PACE_FEATURES - 1)])
        expected.append(-float(losses.point_process(network, known, everything, ones).likelihood))
    network.stretch.pace_weights.assign(np.zeros(PACE_FEATURES))
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-3)


def test_windows_follow_one_another_up_to_the_night_and_begin_after_the_first_event() -> None:
    begins = windows(returning(1, [9.0]), BEGIN + 30.5 * DAY, 7.0)
    np.testing.assert_allclose((begins - BEGIN) / DAY, [2.5, 9.5, 16.5, 23.5])
    assert not len(windows(returning(1, [9.0]), BEGIN + 6 * DAY, 7.0))
