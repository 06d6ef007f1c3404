"""What the walk finds of each event and session, against a plain loop, in whatever pieces the events come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halflife.histories import rows as history
from halflife.histories import sessions, tables
from halflife.histories.context import context_of, open_sessions
from halflife.histories.derive import Derived, derive
from halflife.histories.tables import Names
from histories_log import FILES, ITEMS, RULES, SECOND, START, TYPES, Event, batches, in_order, logs, oracle

NAMES = Names.of(pa.array(ITEMS), TYPES, FILES)


def in_pieces(events: list[Event], ends: list[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[int]]:
    """Events, sessions and the files of duplicates, of a walk whose chunks end at some places."""
    found, summed, duplicates = [], [], []
    carried = None

    def take_up(derived: Derived, closed: Any) -> None:
        ids = sessions.ids(derived.rows, derived.sessions)
        found.extend(tables.events(derived, ids, NAMES, np.flatnonzero(~derived.rows.known)).to_pylist())
        wanted = np.flatnonzero(closed & derived.totals.pending)
        summed.extend(tables.summaries(derived, ids, wanted).to_pylist())
        duplicates.extend(derived.duplicates.tolist())

    (whole,) = batches(events)
    for begin, end in zip([0, *ends], [*ends, len(events)], strict=True):
        if begin < end:
            rows = history.from_batches([whole.slice(begin, end - begin)])
            derived = derive(rows if carried is None else history.concat(carried, rows), RULES)
            take_up(derived, ~open_sessions(derived))
            carried = context_of(derived)
    rest = derive(carried, RULES)
    take_up(rest, np.ones(len(rest.sessions), dtype=np.bool_))
    for row in found + summed:
        for name in ("event_time", "session_start", "start_time", "end_time"):
            if name in row:
                row[name] = int(np.datetime64(row[name].replace(tzinfo=None), "us").astype(int))
    return found, sorted(summed, key=lambda row: (row["user_id"], row["start_time"], row["session_id"])), duplicates


def assert_like_oracle(events: list[Event], ends: list[int]) -> None:
    found, summed, duplicates = in_pieces(events, ends)
    expected, expected_sessions, expected_duplicates = oracle(events)
    names = {}
    for row, wanted in zip(found, expected, strict=True):
        session = wanted.pop("session")
        assert names.setdefault(session, row["session_id"]) == row["session_id"]
        assert {name: row[name] for name in wanted} == wanted
        if row["session_given"]:
            assert row["session_id"] == session[1]
    assert len({(user, name) for (user, _), name in names.items()}) == len(names)
    assert {(row["user_index"], row["session_id"]) for row in summed} == {
        (user, name) for (user, _), name in names.items()
    }
    by_name = {(row["user_index"], row["session_id"]): row for row in summed}
    assert len(by_name) == len(summed)
    for wanted in expected_sessions:
        session = wanted.pop("session")
        row = by_name[session[0], names[session]]
        assert {name: row[name] for name in wanted} == wanted
    assert {file: duplicates.count(file) for file in set(duplicates)} == expected_duplicates


@settings(deadline=None, max_examples=60)
@given(logs())
def test_every_event_and_session_is_as_the_oracle_has_it(events: list[Event]) -> None:
    assert_like_oracle(events, [])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_pieces_find_what_the_whole_finds(data: st.DataObject) -> None:
    events = data.draw(logs(repeats=(0, 1, 2)))
    ends = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=6)))
    assert in_pieces(events, ends) == in_pieces(events, [])


@settings(deadline=None, max_examples=60)
@given(logs(repeats=(0, 1, 2)))
def test_one_row_at_a_time_finds_what_the_whole_finds(events: list[Event]) -> None:
    assert in_pieces(events, list(range(1, len(events)))) == in_pieces(events, [])


@settings(deadline=None, max_examples=60)
@given(logs(given=False, repeats=(0,)))
def test_ids_stay_the_same_whatever_else_is_in_the_log(events: list[Event]) -> None:
    """Other users, and what a user does later, change no session's id and no earlier event's place."""
    one = [event for event in events if event.user_index == events[0].user_index]
    among = [row for row in in_pieces(events, [])[0] if row["user_id"] == f"user {one[0].user_index}"]
    assert in_pieces(one, [])[0] == among
    half = one[: len(one) // 2 + 1]
    while len(half) < len(one) and one[len(half)].place == half[-1].place:
        half.append(one[len(half)])
    alone = in_pieces(half, [])[0]
    assert alone == among[: len(alone)]


def at(*seconds: float) -> list[Event]:
    return [Event(0, START + round(second * SECOND), n, item_index=n % 4) for n, second in enumerate(seconds)]


def test_a_gap_of_exactly_the_limit_does_not_end_a_session() -> None:
    found = in_pieces(at(0, 600, 1_200.000001), [])[0]
    assert [row["session_position"] for row in found] == [0, 1, 0]
    assert found[2]["gap_seconds"] == pytest.approx(600.000001)


def test_a_session_is_cut_at_the_first_event_beyond_its_longest_span_and_counted_from_there() -> None:
    found = in_pieces(at(0, 500, 1_000, 1_500, 2_000, 2_500, 3_500, 3_501), [])[0]
    assert [row["session_position"] for row in found] == [0, 1, 2, 3, 0, 1, 0, 1]
    assert len({row["session_id"] for row in found}) == 3


def test_a_given_session_is_neither_cut_nor_interrupted_and_does_not_prolong_others() -> None:
    events = at(0, 400, 800, 5_000)
    events[1] = replace(events[1], given_session_id="basket")
    events[3] = replace(events[3], given_session_id="basket")
    found = in_pieces(events, [])[0]
    assert [row["session_position"] for row in found] == [0, 0, 0, 1]
    assert found[0]["session_id"] != found[2]["session_id"]
    assert (found[3]["session_id"], found[3]["session_start"]) == ("basket", START + 400 * SECOND)


@pytest.mark.parametrize("ends", [[], [1, 2, 3, 4]])
def test_an_item_counts_once_in_a_session_that_others_interrupt(ends: list[int]) -> None:
    given_ids, items = ["basket", "basket", None, None, "basket"], [0, 1, 0, 1, 0]
    events = [
        replace(event, given_session_id=given_id, item_index=item)
        for event, given_id, item in zip(at(0, 1, 2, 3, 4), given_ids, items, strict=True)
    ]
    summed = {row["session_id"]: row for row in in_pieces(events, ends)[1]}
    assert (summed["basket"]["events"], summed["basket"]["items"]) == (3, 2)


def test_engaged_time_is_dwell_where_known_and_capped_gaps_otherwise() -> None:
    events = [replace(event, given_session_id="one") for event in at(0, 100, 1_900)]
    events[1] = replace(events[1], dwell_seconds=7.0)
    (session,) = in_pieces(events, [])[1]
    assert session["engaged_seconds"] == 0 + 7 + 600
    assert (session["events"], session["items"]) == (3, 3)


def test_files_that_are_read_again_add_only_what_was_not_published() -> None:
    """Two copies were published and three are in the file tonight: one is new."""
    published = [Event(0, START, 1, repeats=2, role=1)] * 2
    tonight = [Event(0, START, 1, repeats=2, file_index=1)] * 3
    for ends in ([], [1], [2], [3], [4], [1, 2, 3, 4]):
        found, _, duplicates = in_pieces(in_order([*published, *tonight]), ends)
        assert [row["event_id"][17:] for row in found] == ["", "-1", "-2"]
        assert duplicates == [1, 1]


def test_a_published_event_stays_and_its_late_copy_is_the_duplicate() -> None:
    events = in_order([Event(0, START, 1, role=1, file_index=2), Event(0, START, 1, file_index=0)])
    found, _, duplicates = in_pieces(events, [])
    assert ([row["source"] for row in found], duplicates) == (["shop"], [0])


def test_copies_of_one_event_in_two_sessions_are_counted_once() -> None:
    """What is carried of them is a row a session: only the last speaks for all of them."""
    copies = [replace(event, event_key=0, item_index=0, repeats=1) for event in at(*[0] * 13)]
    copies[-2] = replace(copies[-2], given_session_id="x")
    found, _, _ = in_pieces(copies, list(range(1, 13)))
    assert found == in_pieces(copies, [])[0]
    assert len({row["event_id"] for row in found}) == 13


def test_what_is_known_counts_on_from_the_highest_though_the_tenth_comes_before_the_second() -> None:
    known, value = np.array([True] * 11 + [False] * 2), np.array([1, 10, 11, *range(2, 10), 0, 0])
    first = np.arange(13) == 0
    assert history.counted_on(first, known, value).tolist() == [*value[:11], 12, 13]


def test_no_value_stands_twice_in_the_dictionary_of_a_column() -> None:
    files = [("shop", "a.csv"), ("shop", "b.csv"), ("app", "b.csv")]
    names = Names.of(pa.array(ITEMS), TYPES, files)
    for column, values in ((names.sources, ["shop", "shop", "app"]), (names.files, ["a.csv", "b.csv", "b.csv"])):
        assert column.to_pylist() == values
        found = tables.named(np.array([0, 1, 2, 1]), column)
        assert found.to_pylist() == [values[place] for place in (0, 1, 2, 1)]
        assert len(set(found.dictionary.to_pylist())) == len(found.dictionary)
