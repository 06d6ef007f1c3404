"""Nights by a network: who is encoded again changes no score, and everyone and everything has one."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from halflife import forgetting
from halflife.warehouse.layout import MANIFEST
from scored_log import FIRST, Nights

MEMBERS = ("anna", "ben", "dora", "emil")


@pytest.fixture(scope="module")
def nights(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    """New ids, a silent night, a missed one with a late event, another model, and a user who is forgotten."""
    made = Nights(tmp_path_factory.mktemp("neural") / "nights", MEMBERS)
    made.log(0, ("anna", "apple", 8), ("anna", "apple", 20), ("ben", "pear", 9), ("emil", "pear", 3))
    made.run(1, jobs=("sessionize",))
    made.train(1, seed=1)
    made.run(1, jobs=("score",))
    made.log(1, ("carl", "kiwi", 7), ("anna", "pear", 7))
    made.run(2)
    made.run(3)
    made.log(3, ("ben", "apple", 9))
    made.log(4, ("anna", "apple", -20), ("anna", "apple", 2), ("carl", "kiwi", -90))
    made.assortment("apple", "pear")
    made.run(5)
    return made


@pytest.fixture(scope="module")
def later(nights: Nights) -> Nights:
    """After `nights` has been looked at."""
    nights.run(6, jobs=("sessionize",))
    nights.train(6, seed=2)
    nights.run(6, jobs=("score",))
    nights.log(6, ("anna", "pear", 5))
    nights.run(7)
    forgetting.ask(nights.store, FIRST + timedelta(days=8), ["ben"], [])
    nights.log(7, ("carl", "apple", 5))
    nights.run(8)
    return nights


def assert_carried_over_exactly(nights: Nights, day: int, folder: Path) -> None:
    """To the last bit: no sum depends on how its terms came."""
    anew = nights.from_scratch(folder, day)
    assert anew.figures(day)["skipped"] == 0
    for table in ("user_states", "memory", "scores"):
        assert nights.table(table, day) == anew.table(table, day), table


def test_every_pair_of_known_users_and_items_has_a_score(nights: Nights) -> None:
    for day, users, items in ((1, 4, 3), (2, 5, 4), (5, 5, 4)):
        found = nights.scores(day)
        assert len(found) == users * items
        assert all(0 < score < 1 for score in found.values())


def test_without_events_a_user_gets_the_popularity_that_tells_items_apart(nights: Nights) -> None:
    for day in (1, 5):
        found = nights.scores(day)
        popularity = {item: score for (user, item), score in found.items() if user == "dora"}
        assert len(set(popularity.values())) == len(popularity)
    assert nights.scores(1)["dora", "plum"] == nights.scores(5)["dora", "plum"], "an item that was withdrawn"
    # An item that came after training has the bias of one without events, and no vector: the same for everyone.
    assert len({score for (user, item), score in nights.scores(2).items() if item == "kiwi" and user != "carl"}) == 1


def test_on_a_silent_night_nobody_is_encoded_and_interest_nears_the_popularity(nights: Nights) -> None:
    assert (nights.figures(3)["encoded"], nights.figures(3)["skipped"]) == (0, 4)
    before, after = nights.scores(2), nights.scores(3)
    nearer = [
        abs(np.log(after[user, item] / after["dora", item])) <= abs(np.log(before[user, item] / before["dora", item]))
        for user, item in before
    ]
    assert np.mean(nearer) > 0.8  # a read-out of several half-lives may turn on its way
    assert nights.table("memory", 3) == nights.table("memory", 2)


def test_a_missed_night_with_a_late_event_is_caught_up_exactly(nights: Nights, tmp_path: Path) -> None:
    assert nights.figures(5)["encoded"] == 2  # anna and ben; what came for carl was too late
    assert_carried_over_exactly(nights, 5, tmp_path / "anew")


def test_another_model_encodes_everyone_and_the_next_nights_go_on_from_it(later: Nights, tmp_path: Path) -> None:
    assert later.figures(6)["model"] != later.figures(5)["model"]
    assert later.figures(6)["skipped"] == 0
    assert (later.figures(7)["encoded"], later.figures(7)["skipped"]) == (1, 3)
    assert_carried_over_exactly(later, 7, tmp_path / "anew")


def test_who_is_forgotten_is_in_no_state_and_the_others_are_carried_over_exactly(later: Nights, tmp_path: Path) -> None:
    assert "ben" not in {user for user, _ in later.scores(8)}
    assert (later.figures(8)["encoded"], later.figures(8)["skipped"]) == (1, 2)
    assert_carried_over_exactly(later, 8, tmp_path / "anew")


def test_a_night_from_before_there_were_active_sequences_is_encoded_from_everyones(
    later: Nights, tmp_path: Path
) -> None:
    later.log(8, ("anna", "kiwi", 5))
    later.run(9, jobs=("sessionize",))
    night = later.store.night_link("sessionize", FIRST + timedelta(days=9))
    manifest = json.loads((night / MANIFEST).read_text())
    assert manifest["tables"].pop("active_sequences")["rows"] == 1
    (night / MANIFEST).write_text(json.dumps(manifest))
    shutil.rmtree(night / "active_sequences")
    later.run(9, jobs=("score",))
    assert (later.figures(9)["encoded"], later.figures(9)["skipped"]) == (1, 2)
    assert_carried_over_exactly(later, 9, tmp_path / "anew")


def test_files_of_users_without_new_events_are_linked(later: Nights) -> None:
    """Two users a file, and of the four only anna had an event."""
    for table in ("memory", "user_states"):
        before, after = (
            {file.path.name: file.path for file in later.store.files(table, FIRST + timedelta(days=day))}
            for day in (6, 7)
        )
        kept = before.keys() & after.keys()
        assert len(kept) == len(before) - 1
        assert all(before[name].samefile(after[name]) for name in kept)


def test_a_categorys_trend_goes_on_from_night_to_night(nights: Nights) -> None:
    (first,), (second,), (fifth,) = (
        nights.store.rows("category_trend", FIRST + timedelta(days=day)) for day in (1, 2, 5)
    )
    assert second["strengths"][:2] == [second["strength"], first["strength"]]
    assert second["change_1_night"] == pytest.approx(second["strength"] / first["strength"] - 1)
    # Of the night that was missed nothing is known.
    assert fifth["strengths"][1] is None
    assert fifth["strengths"][3:5] == second["strengths"][:2]
    assert fifth["change_1_night"] is None
