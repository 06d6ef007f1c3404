"""Examples: what is input, what is target, and that nothing of the future is input."""

from __future__ import annotations

import numpy as np

from halflife.training.batches import batch_of
from halflife.training.examples import History, history_of, next_session, random_cuts
from training_log import AS_OF, BEGIN, DAY, columns_of, row_of, user_events

WEEK = 7.0


def history(seconds: list[float], items: list[int], strengths: list[float] | None = None) -> History:
    weights = np.array(strengths if strengths is not None else [1.0] * len(items))
    columns = columns_of(BEGIN + np.array(seconds) * DAY, np.array(items), weights)
    return history_of(row_of(columns), AS_OF)


def test_targets_are_the_positive_strengths_within_the_horizon() -> None:
    events = history([0, 1, 10, 12, 12, 16.9, 17.1], [3, 3, 3, 5, 5, 3, 3], [1, 1, 2, 1, -4, 1, 1])
    batch = batch_of([events], [BEGIN + np.array([10.0]) * DAY], 8, WEEK)
    assert batch.targets.item.tolist() == [3, 5]
    assert batch.targets.strength.tolist() == [3.0, 1.0]
    known, new = batch.targets.pair
    assert (batch.pairs.item[known], batch.pairs.cut[known]) == (3, 0)
    assert new == len(batch.pairs.item)  # nothing is remembered of item 5


def test_memory_terms_are_the_events_before_the_cut() -> None:
    events = history([0, 1, 2, 3], [4, 6, 4, 6], [1, 1, -1, 1])
    batch = batch_of([events], [BEGIN + np.array([1.5, 2.5]) * DAY], 8, WEEK)
    assert batch.history.item.tolist() == [4, 6, 4]
    assert batch.history.term_event.tolist() == [0, 1, 0, 1, 2]
    np.testing.assert_allclose(batch.history.term_age_days, [1.5, 0.5, 2.5, 1.5, 0.5], rtol=1e-5)
    pairs = list(zip(batch.pairs.cut, batch.pairs.item, strict=True))
    assert [pairs[place] for place in batch.history.term_pair] == [(0, 4), (0, 6), (1, 4), (1, 6), (1, 4)]
    assert [pairs[place] for place in batch.pairs.with_negative] == [(1, 4)]


def test_the_future_never_enters_the_input() -> None:
    whole, cut = user_events(5), BEGIN + 60 * DAY
    before = {name: column[whole["event_seconds"] < cut] for name, column in whole.items()}
    with_future, without = (
        batch_of([history_of(row_of(columns), AS_OF)], [np.array([cut])], 16, WEEK) for columns in (whole, before)
    )
    for name in ("history", "pairs", "cuts"):
        for found, expected in zip(getattr(with_future, name), getattr(without, name), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert len(with_future.targets.item)
    assert not len(without.targets.item)


def test_events_after_the_cut_date_are_dropped_at_once() -> None:
    assert len(history_of(row_of(user_events(5)), BEGIN)) == 0


def test_a_batch_counts_its_users_one_after_the_other() -> None:
    users = [history_of(row_of(user_events(user)), AS_OF) for user in range(3)]
    cuts = [np.array([BEGIN + 50 * DAY, BEGIN + 60 * DAY]), np.empty(0), np.array([BEGIN + 70 * DAY])]
    batch = batch_of(users, cuts, 16, WEEK)
    single = batch_of(users[2:], cuts[2:], 16, WEEK)
    chosen = batch.pairs.cut[batch.history.term_pair] == 2
    np.testing.assert_array_equal(batch.history.item[batch.history.term_event[chosen]], single.history.item)
    np.testing.assert_array_equal(batch.cuts.item[2], single.cuts.item[0])
    np.testing.assert_array_equal(batch.targets.item[batch.targets.cut == 2], single.targets.item)


def test_a_batch_is_its_users_one_after_the_other() -> None:
    """Row by row the same as the batches of each user alone, and what points into other tables moved on."""
    users = [history_of(row_of(user_events(user)), AS_OF) for user in range(5)]
    cuts = [BEGIN + np.random.default_rng(user).uniform(20, 95, 3) * DAY for user in range(5)]
    batch, singles = (
        batch_of(users, cuts, 16, WEEK),
        [batch_of([u], [c], 16, WEEK) for u, c in zip(users, cuts, strict=True)],
    )
    events, pairs = (np.cumsum([0, *(len(getattr(s, table).item) for s in singles)]) for table in ("history", "pairs"))
    shifts = {"term_event": events, "cut": 3 * np.arange(6), "pair": pairs, "term_pair": pairs, "with_negative": pairs}
    for name, table in batch._asdict().items():
        for column, found in table._asdict().items():
            parts = [getattr(getattr(single, name), column) for single in singles]
            if (name, column) == ("targets", "pair"):  # the pair that stands for none is the number of all
                lasts = np.diff(pairs)
                parts = [
                    np.where(part == last, pairs[-1] - shift, part)
                    for part, last, shift in zip(parts, lasts, pairs, strict=False)
                ]
            if column in shifts:
                parts = [part + shift for part, shift in zip(parts, shifts[column], strict=False)]
            np.testing.assert_allclose(found, np.concatenate(parts), rtol=1e-6, err_msg=f"{name}.{column}")


def test_a_batch_without_users_has_the_same_types() -> None:
    empty = batch_of([], [], 16, WEEK)
    full = batch_of([history([0, 1], [1, 2])], [np.array([BEGIN + DAY * 1.5])], 16, WEEK)
    for group, other in zip(empty, full, strict=True):
        for array, like in zip(group, other, strict=True):
            assert array.dtype == like.dtype
            assert array.shape == (0, *like.shape[1:])


def test_random_cuts_thin_out_into_the_past() -> None:
    events = history([2.0], [1])
    cuts = random_cuts(events, 20_000, BEGIN, BEGIN + 62 * DAY, 30.0, np.random.default_rng(1))
    assert BEGIN + 2 * DAY < cuts.min() < cuts.max() <= BEGIN + 62 * DAY
    # 60 days are two half-lives: the newer 30 days get two thirds of the cuts.
    assert abs((cuts > BEGIN + 32 * DAY).mean() - 2 / 3) < 0.01
    assert not len(random_cuts(events, 5, BEGIN, BEGIN + DAY, 30.0, np.random.default_rng(1)))


def test_next_session_needs_a_past_and_ends_with_itself() -> None:
    events = history([1.0, 9.0, 9.001, 11.0], [1, 2, 3, 4])
    found = next_session(events, BEGIN + 8 * DAY, BEGIN + 20 * DAY)
    assert found is not None
    assert found[0] == BEGIN + 9 * DAY
    assert found[1].tolist() == [2, 3]
    assert next_session(events, BEGIN, BEGIN + 20 * DAY) is None
    assert next_session(events, BEGIN + 12 * DAY, BEGIN + 20 * DAY) is None


def test_the_next_session_is_blind_for_what_lies_behind_the_window() -> None:
    events = history([1.0, 9.0, 9.001, 30.0, 31.0], [1, 2, 3, 4, 5])
    found = next_session(events, BEGIN + 8 * DAY, BEGIN + 20 * DAY)
    assert found is not None
    assert found[1].tolist() == [2, 3]
    cut = next_session(events, BEGIN + 8 * DAY, BEGIN + 9 * DAY + 1)
    assert cut is not None
    assert cut[1].tolist() == [2]


def test_what_the_next_session_only_cancels_is_not_among_its_items() -> None:
    events = history([1.0, 9.0, 9.001, 11.0], [1, 2, 3, 4], [1, -1, 1, -1])
    found = next_session(events, BEGIN + 8 * DAY, BEGIN + 20 * DAY)
    assert found is not None
    assert found[1].tolist() == [3]
    assert next_session(events, BEGIN + 10 * DAY, BEGIN + 20 * DAY) is None


def test_the_next_session_of_a_cut_says_which_known_items_it_holds() -> None:
    events = history([0, 1, 2, 5, 5, 5, 9], [3, 4, 3, 4, 7, 8, 3], [1, 1, 1, 1, 1, -1, 1])
    sessions = batch_of([events], [BEGIN + np.array([1.5, 3.0, 6.0, 9.5]) * DAY], 8, WEEK).sessions
    pairs = batch_of([events], [BEGIN + np.array([1.5, 3.0, 6.0, 9.5]) * DAY], 8, WEEK).pairs
    np.testing.assert_allclose(sessions.delay_days, [0.5, 2.0, 3.0, 0.0], rtol=1e-5)
    assert sessions.items.tolist() == [1, 2, 1, 0]  # 4 and 7, not the 8 that was taken back; last, none is known
    known = [(int(pairs.cut[place]), int(pairs.item[place])) for place in sessions.pair]
    # Items that the user meets after a cut are none of its pairs, although a later cut of the batch knows them.
    assert known == [(0, 3), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4), (2, 7), (2, 8)]
    assert sessions.holds.tolist() == [1, 0, 0, 1, 1, 0, 0, 0]


def test_a_cut_within_a_session_waits_for_the_next_one() -> None:
    events = history([0, 2, 2.001, 6], [3, 4, 3, 3])
    sessions = batch_of([events], [BEGIN + np.array([2.0005]) * DAY], 8, WEEK).sessions
    assert sessions.delay_days[0] == np.float32(6 - 2.0005)
    assert sessions.items.tolist() == [1]
