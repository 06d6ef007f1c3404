"""Validation figures against every pair's expected strength."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from halflife.config import ModelConfig, TrainConfig
from halflife.decay import SECONDS_PER_DAY
from halflife.model import losses
from halflife.training.batches import batch_of
from halflife.training.examples import history_of
from halflife.training.initial import count_items, new_network, start_network
from halflife.training.population import midnights_each
from halflife.training.validation import Sums, ValidationUsers, Validator, figures, ndcg_and_recall
from training_log import AS_OF, ITEMS, row_of, user_events

LENGTH, HORIZON = 16, 7.0
BEGIN = AS_OF - 28 * SECONDS_PER_DAY


def test_figures_are_those_of_all_pairs() -> None:
    keras.utils.set_random_seed(2)
    histories = [history_of(row_of(user_events(user)), AS_OF) for user in range(70)]
    config = ModelConfig(half_lives_days=(1.0, 30.0), vector_size=4, encoder_units=(6, 5), jump_units=7)
    network = new_network(config, ITEMS, event_types=2, sequence_length=LENGTH)
    start_network(network, count_items(histories, len(ITEMS), BEGIN), 30.0)
    users = ValidationUsers()
    for place, history in enumerate(histories):
        users.add(history, BEGIN, AS_OF, HORIZON, place)
    train = TrainConfig(loss={"point_process": 1.0, "mse": 3.0})
    found = figures(Validator(network, train).sums(users), ranking_weight=2.0)

    batch = batch_of([h for h, _ in users.midnights], [np.array([cut]) for _, cut in users.midnights], LENGTH, HORIZON)
    expected = losses.expected_strengths(network, batch, tf.range(len(ITEMS))).numpy().astype(np.float64)
    observed = np.zeros_like(expected)
    observed[batch.targets.cut, batch.targets.item] = batch.targets.strength
    logs = np.log(np.maximum(expected, losses.LEAST_STRENGTH))
    assert found["validation_loss"] == pytest.approx((expected - observed * logs).sum() / len(expected), rel=1e-4)
    assert found["validation_calibration"] == pytest.approx(expected.sum() / observed.sum(), rel=1e-4)
    assert found["validation_mse"] == pytest.approx(np.square(expected - observed).mean(), rel=1e-4)
    assert found["validation_mae"] == pytest.approx(np.abs(expected - observed).mean(), rel=1e-4)
    residual = np.square(expected - observed).sum() / np.square(observed - observed.mean()).sum()
    assert found["validation_r2"] == pytest.approx(1 - residual, abs=1e-4)
    assert 0 < found["validation_ndcg_at_10"] <= 1
    order = 2.0 * observed.sum() / np.count_nonzero(batch.sessions.items)
    loss = losses.training_loss(
        network,
        batch,
        tf.range(len(ITEMS)),
        tf.ones(len(ITEMS)),
        {"point_process": 1.0, "mse": 3.0},
        training=False,
        ranking_weight=tf.constant(order, tf.float32),
    )
    assert float(loss.order) > 0
    assert found["validation_objective"] == pytest.approx(float(sum(loss)) / len(expected), rel=1e-4)


@pytest.mark.parametrize(("each", "horizon_days", "count"), [(1, 7.0, 1), (3, 7.0, 3), (99, 7.0, 4), (8, 0.25, 8)])
def test_midnights_of_a_user_lie_apart_and_before_the_end(each: int, horizon_days: float, count: int) -> None:
    users, history = ValidationUsers(each), history_of(row_of(user_events(0)), AS_OF)
    for place in range(50):
        users.add(history, BEGIN, AS_OF, horizon_days, place)
    nights = np.array([cut - BEGIN for _, cut in users.midnights]).reshape(50, count) / SECONDS_PER_DAY
    assert ((nights % 1 == 0) & (nights >= 0) & (nights + horizon_days <= 28)).all()
    assert (np.diff(np.sort(nights, axis=1)) >= (28 - horizon_days) // count).all()
    assert len(np.unique(nights)) == int(28 - horizon_days) + 1  # users go round all of them


@pytest.mark.parametrize(("users", "each"), [(0, 4_096), (1, 4_096), (500, 8), (2_049, 1), (10**6, 1)])
def test_fewer_users_hold_out_more_midnights_each(users: int, each: int) -> None:
    assert midnights_each(4_096, users) == each


def test_a_rank_without_users_adds_nothing() -> None:
    network = new_network(ModelConfig(), ITEMS, event_types=2, sequence_length=LENGTH)
    sums = Validator(network, TrainConfig()).sums(ValidationUsers())
    assert sums.tolist() == [0.0] * len(Sums._fields)
    assert all(np.isfinite(value) for value in figures(sums, 2.0).values())


def test_ndcg_and_recall_of_one_ranking() -> None:
    ndcg, recall = ndcg_and_recall(np.array([4, 1, 2]), np.array([1, 9]))
    assert recall == 0.5
    assert ndcg == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
