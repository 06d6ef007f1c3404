"""Augmented histories: what they say of themselves is true of their events, and they tell nothing of the future."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halflife.config import AugmentationConfig
from halflife.training.augmentation import augmented, begun_later, jittered, without
from halflife.training.batches import batch_of
from halflife.training.examples import History, history_of, random_cuts
from training_log import AS_OF, BEGIN, DAY, columns_of, row_of, user_events

EVERYTHING = AugmentationConfig(crop=0.5, drop=0.3, jitter_seconds=7_200.0)


def whole(user: int) -> History:
    return history_of(row_of(user_events(user, 60)), AS_OF)


def retold(history: History) -> History:
    """The history that a log of just these events has."""
    columns = columns_of(history.seconds, history.item, history.strength)
    # Sessions are what they were: where an event is left out, the next one may come after a long gap.
    columns["session_position"] = history.columns["session_position"]
    return history_of(row_of(columns), np.inf)  # a jitter may move the last session past AS_OF


def assert_same(found: History, expected: History, but: tuple[str, ...] = ("hour", "weekday", "type_index")) -> None:
    assert set(found.columns) == set(expected.columns)
    for name, column in expected.columns.items():
        assert found.columns[name].dtype == column.dtype, name
        if name not in but:
            np.testing.assert_allclose(found.columns[name], column, rtol=1e-4, atol=1e-4, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(user=st.integers(0, 20), first=st.integers(0, 59))
def test_a_history_that_begins_later_knows_nothing_before(user: int, first: int) -> None:
    history = whole(user)
    late = begun_later(history, first)
    expected = {name: column[first:] for name, column in user_events(user, 60).items()}
    assert_same(late, history_of(row_of(columns_of(*_log(expected))), AS_OF))


def test_sessions_of_one_instant_may_lose_any_of_their_events() -> None:
    """Two baskets that a log books at the same second stand among each other, each counting its own events."""
    columns = columns_of(np.full(6, BEGIN), np.arange(6), np.ones(6))
    columns["session_position"] = np.array([0, 0, 1, 1, 2, 2], dtype=np.int32)
    history = history_of(row_of(columns), AS_OF)
    for dropped in range(2**6 - 1):
        found = without(history, (dropped >> np.arange(6)) % 2 == 1)
        assert (found.columns["session_position"] >= 0).all()
        assert np.isfinite(found.jump_features).all()


@settings(max_examples=30, deadline=None)
@given(user=st.integers(0, 20), seed=st.integers(0, 99))
def test_a_history_without_some_events_is_as_if_they_had_not_happened(user: int, seed: int) -> None:
    history = whole(user)
    dropped = np.random.default_rng(seed).random(len(history)) < 0.4
    found = without(history, dropped)
    np.testing.assert_array_equal(found.seconds, history.seconds[~dropped])
    assert_same(found, retold(found))
    positions = found.columns["session_position"]
    ordinal = np.cumsum(history.session_start)[~dropped]
    assert all((positions[ordinal == session] == np.arange((ordinal == session).sum())).all() for session in ordinal)


def test_a_cut_off_past_still_counts_when_events_are_dropped() -> None:
    columns = {name: column[30:] for name, column in user_events(3, 60).items()}
    history = history_of(row_of(columns), AS_OF)
    dropped = np.zeros(30, dtype=np.bool_)
    again = int(np.flatnonzero(history.columns["revisit_count"] > 2)[0])
    later = np.flatnonzero(history.item == history.item[again])
    dropped[later[0]] = True
    found = without(history, dropped).columns
    place = later[1] - 1
    assert found["revisit_count"][place] == columns["revisit_count"][later[1]] - 1
    silence = np.expm1(columns["revisit_gap_log"][later[:2]].astype(np.float64)).sum()
    assert np.expm1(found["revisit_gap_log"][place]) == pytest.approx(silence, rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(user=st.integers(0, 20), seed=st.integers(0, 99), seconds=st.sampled_from([60.0, 7_200.0, 1e6]))
def test_jitter_moves_whole_sessions_later_and_keeps_their_order(user: int, seed: int, seconds: float) -> None:
    history = whole(user)
    moved = jittered(history, seconds, np.random.default_rng(seed))
    shift = moved.seconds - history.seconds
    assert (shift >= 0).all()
    assert (shift <= seconds).all()
    assert shift.max() > 0
    assert (np.diff(moved.seconds) >= 0).all()
    inside = ~history.session_start
    np.testing.assert_allclose(shift[inside], shift[np.flatnonzero(inside) - 1])
    np.testing.assert_array_equal(moved.session_start, history.session_start)
    assert_same(moved, retold(moved))


@settings(max_examples=40, deadline=None)
@given(user=st.integers(0, 20), seed=st.integers(0, 999))
def test_no_event_of_the_future_enters_the_input_and_the_targets_stay(user: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    history = whole(user)
    seen = augmented(history, EVERYTHING, rng)
    cuts = random_cuts(seen, 4, BEGIN, AS_OF - 7 * DAY, 90.0, rng)
    batch = batch_of([seen], [cuts], 16, 7.0, [history])
    plain = batch_of([history], [cuts], 16, 7.0)
    for name in ("cut", "item", "strength"):
        np.testing.assert_array_equal(getattr(batch.targets, name), getattr(plain.targets, name))
    for row, cut in enumerate(cuts):
        known = batch.cuts.length[row]
        happened = (history.seconds < cut).sum()
        assert 0 < known <= min(happened, 16)
    # Every remembered event is one that happened before its cut.
    terms = batch.pairs.cut[batch.history.term_pair]
    assert all((terms == row).sum() <= (history.seconds < cut).sum() for row, cut in enumerate(cuts))
    assert (batch.history.term_age_days > 0).all()


def test_nothing_changes_where_augmentation_is_off() -> None:
    history = whole(1)
    assert augmented(history, AugmentationConfig(), np.random.default_rng(1)) is history
    assert_same(without(history, np.zeros(len(history), dtype=np.bool_)), history, but=())


def test_the_rates_are_those_of_the_config() -> None:
    rng = np.random.default_rng(7)
    history = whole(2)
    lengths = [len(augmented(history, AugmentationConfig(drop=0.25), rng)) for _ in range(200)]
    assert np.mean(lengths) == pytest.approx(45, abs=1.5)
    strengths = [augmented(history, AugmentationConfig(drop=0.25), rng).strength.sum() for _ in range(400)]
    assert np.mean(strengths) == pytest.approx(history.strength.sum(), rel=0.03)
    cropped = [len(augmented(history, AugmentationConfig(crop=0.5), rng)) < 60 for _ in range(400)]
    assert np.mean(cropped) == pytest.approx(0.5, abs=0.08)


def _log(columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    return columns["event_seconds"], columns["item_index"], columns["strength"]
