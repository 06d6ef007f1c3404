"""What is counted of items before training."""

from __future__ import annotations

import numpy as np

from halflife.model.architecture import ITEM_FEATURES
from halflife.training.examples import History, history_of
from halflife.training.initial import ItemCounts, count_items
from training_log import AS_OF, BEGIN, DAY, columns_of, row_of, user_events


def history(days: list[float], items: list[int]) -> History:
    columns = columns_of(BEGIN + np.array(days) * DAY, np.array(items), np.ones(len(items)))
    return history_of(row_of(columns), AS_OF)


def test_items_of_large_sessions_and_of_late_returns_have_large_features() -> None:
    # Item 0 alone every day, items 1 to 3 together every 20 days.
    alone = history([0, 1, 2, 3, 4], [0] * 5)
    together = history([0, 0, 0, 20, 20, 20, 40, 40, 40], [1, 2, 3] * 3)
    counts = count_items([alone, together], 5, AS_OF)
    size, silence = counts.features[:, 2], counts.features[:, 3]
    mean_size = (9 * np.log(3)) / 14
    np.testing.assert_allclose(size[[0, 1]], [-mean_size * 5 / 15, (np.log(3) - mean_size) * 3 / 13], rtol=1e-6)
    mean_silence = (4 * np.log(2) + 6 * np.log(21)) / 10
    expected = [(np.log(2) - mean_silence) * 4 / 9, (np.log(21) - mean_silence) * 2 / 7]
    np.testing.assert_allclose(silence[[0, 1]], expected, rtol=1e-5)
    assert counts.features.shape == (6, ITEM_FEATURES)
    assert size[4] == silence[5] == 0  # nothing is known of an item without events


def test_counts_add_up_over_users_and_travel_in_one_array() -> None:
    users = [history_of(row_of(user_events(user)), AS_OF) for user in range(6)]
    whole = count_items(users, 12, BEGIN + 70 * DAY)
    first, second = (count_items(part, 12, BEGIN + 70 * DAY).packed() for part in (users[:2], users[2:]))
    np.testing.assert_allclose(ItemCounts.unpacked(first + second).packed(), whole.packed(), rtol=1e-9)
    np.testing.assert_allclose(ItemCounts.unpacked(first + second).features, whole.features, rtol=1e-9, atol=1e-12)
