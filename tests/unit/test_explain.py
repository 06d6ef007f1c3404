"""An explanation adds up to the score, says when it will have halved, and is shown as a table, JSON and a picture."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import published_warehouse as published
from halflife import cli
from halflife.answers import explain, plot
from halflife.answers.night import PublishedNight
from halflife.decay import decay_integral
from halflife.errors import InputMissingError
from halflife.warehouse import Warehouse

NIGHT = published.TRAINED


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> PublishedNight:
    store = Warehouse(tmp_path_factory.mktemp("warehouse"))
    published.publish_model(store)
    published.publish_night(store, NIGHT)
    return PublishedNight(store)


def by_the_law(folder: Path, half_life_days: float, strength: float = 1.0) -> PublishedNight:
    """A night by the classical law after one event, ten days ago."""
    store = Warehouse(folder)
    published.publish_night(store, NIGHT, [published.Event(0, 0, -10.0, strength)], half_life_days)
    return PublishedNight(store)


@pytest.mark.parametrize(
    ("user", "item"), [("ann", "tea"), ("ann", "bread"), ("bob", "milk"), ("ann", "soap"), ("cid", "tea")]
)
def test_the_events_and_the_affinity_of_a_pair_add_up_to_its_published_score(
    night: PublishedNight, user: str, item: str
) -> None:
    explained = explain.explain(night, user, item)
    own = [
        event
        for event in published.EVENTS
        if (published.USERS[event.user], published.ITEMS[event.item]) == (user, item)
    ]
    assert explained.events["strength"].tolist() == [event.strength for event in own]
    assert (np.sign(explained.jumps.sum(axis=1)) == np.sign(explained.events["strength"])).all()
    assert explained.published is not None
    assert abs(explained.score - explained.published) < 1e-6


def test_what_is_left_of_an_event_is_its_jump_decayed_in_each_channel(night: PublishedNight) -> None:
    explained = explain.explain(night, "ann", "tea")
    ages = np.array([40.0, 2.5])
    np.testing.assert_allclose(explained.left, explained.jumps * decay_integral(ages, [1.0, 30.0, 180.0], 7.0))


def test_by_the_classical_law_the_interest_halves_in_its_half_life(tmp_path: Path) -> None:
    explained = explain.explain(by_the_law(tmp_path, 12.5), "ann", "tea")
    assert explained.halves_after_days == pytest.approx(12.5, rel=1e-5)


def test_a_score_near_one_halves_later_than_the_interest_behind_it(tmp_path: Path) -> None:
    explained = explain.explain(by_the_law(tmp_path, 12.5, strength=40.0), "ann", "tea")
    assert explained.score > 0.99
    after = explained.score_halves_after_days
    assert after is not None
    assert -np.expm1(-explained.expected * 2 ** (-after / 12.5)) == pytest.approx(explained.score / 2, rel=1e-5)


def test_what_does_not_fade_has_no_half_life(night: PublishedNight) -> None:
    popular = explain.explain(night, "cid", "tea")
    assert (popular.halves_after_days, popular.score_halves_after_days) == (None, None)
    assert popular.affinity == pytest.approx(popular.popularity)


def test_events_that_were_published_again_since_are_not_taken_for_those_of_the_score(tmp_path: Path) -> None:
    night = by_the_law(tmp_path, 12.5)
    published.publish_events(night.store, NIGHT, published.events_table(published.EVENTS))
    with pytest.raises(InputMissingError, match="published again since"):
        explain.explain(night, "ann", "tea")


def test_the_command_shows_the_sum_and_draws_it(
    night: PublishedNight, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["ann", "tea", "--config", str(published.config(night.store.root)), "--as-of", str(NIGHT)]
    picture = tmp_path / "tea.svg"
    assert cli.main(["explain", *asked, "--plot", str(picture)]) == 0
    shown = capsys.readouterr().out
    explained = explain.explain(night, "ann", "tea")
    assert f"{explained.expected:.6f}" in shown
    assert str(NIGHT - timedelta(days=40)) in shown
    assert cli.main(["explain", *asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert sum(sum(event["left"]) for event in answer["events"]) + answer["affinity"] == pytest.approx(
        answer["expected"]
    )
    drawn = ElementTree.fromstring(picture.read_text())
    words = " ".join(drawn.itertext())
    assert "expected strength, next 7 days" in words
    assert "date (UTC)" in words
    assert len(drawn.findall(".//{*}polyline")) == 3


def test_names_are_text_in_the_picture_whatever_they_hold(night: PublishedNight) -> None:
    explained = explain.explain(night, "ann", "tea")
    curve = explain.curve_of(night, "ann", "tea")
    hostile = plot.svg(type(explained)(**{**vars(explained), "title": "<script>1</script>"}), curve)
    assert "<script" not in hostile


def test_random_pairs_are_checked_and_a_sum_that_differs_is_an_exit_code(
    night: PublishedNight, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "--check", "40", "--config", str(published.config(night.store.root))]) == 0
    assert "40 random pairs" in capsys.readouterr().out
    store = Warehouse(tmp_path / "wrong")
    published.publish_model(store)
    published.publish_night(store, NIGHT, score_error=0.01)
    assert cli.main(["explain", "--check", "40", "--config", str(published.config(store.root))]) == 4


def test_an_unknown_user_is_bad_usage(
    night: PublishedNight, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "dora", "tea", "--config", str(published.config(night.store.root))]) == 2
    assert cli.main(["top", "dora", "--config", str(published.config(night.store.root))]) == 2
    assert "check the id" in capsys.readouterr().err


def test_top_shows_the_best_items_at_any_time(
    night: PublishedNight, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        cli.main(
            [
                "top",
                "ann",
                "-n",
                "2",
                "--at",
                "2026-03-08T12:00",
                "--json",
                "--config",
                str(published.config(night.store.root)),
            ]
        )
        == 0
    )
    assert [row["rank"] for row in json.loads(capsys.readouterr().out)] == [1, 2]
    assert cli.main(["top", "ann", "--at", "2026-02-08", "--config", str(published.config(night.store.root))]) == 2
