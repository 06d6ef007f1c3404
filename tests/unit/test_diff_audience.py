"""What moved overnight adds up by its reasons; audiences are the users above a threshold."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import published_warehouse as published
from halflife import Scorer, cli
from halflife.answers import audience, diff
from halflife.answers.night import PublishedNight
from halflife.errors import ConfigError, UnknownIdError
from halflife.warehouse import Warehouse

FIRST = published.TRAINED
SECOND = FIRST + timedelta(days=1)
NEW = published.Event(1, 0, 0.5)


def nights(folder: Path, retrained: bool = False) -> tuple[PublishedNight, PublishedNight]:
    """Two nights: one event of bob with tea in between, and, where asked, another model."""
    store = Warehouse(folder)
    published.publish_model(store)
    published.publish_night(store, FIRST)
    if retrained:
        published.publish_model(store, SECOND, seed=4)
    published.publish_night(store, SECOND, [*published.EVENTS, NEW])
    return PublishedNight(store, FIRST), PublishedNight(store, SECOND)


@pytest.mark.parametrize("retrained", [False, True])
def test_the_reasons_add_up_to_the_change_of_each_published_score(tmp_path: Path, retrained: bool) -> None:
    early, late = nights(tmp_path, retrained)
    for user_id in ("ann", "bob", "cid"):
        moved = diff.of_user(early, late, user_id)
        for name, night in (("before", FIRST), ("after", SECOND)):
            scores = Scorer(tmp_path, night).score(user_id)
            np.testing.assert_allclose(moved[name], scores["score"], atol=1e-6)
        np.testing.assert_allclose(moved["after"] - moved["before"], moved[[*diff.REASONS]].sum(axis=1), atol=1e-12)


def test_without_new_events_everything_is_decay(tmp_path: Path) -> None:
    store = Warehouse(tmp_path)
    for night in (FIRST, SECOND):
        published.publish_night(store, night, [published.Event(0, 0, -10.0)], law_days=12.5)
    moved = diff.of_user(PublishedNight(store, FIRST), PublishedNight(store, SECOND), "ann").set_index("item_id")
    before, after = -np.log1p(-moved.loc["tea", ["before", "after"]].to_numpy(dtype=float))
    assert after == pytest.approx(before * 2 ** (-1 / 12.5), rel=1e-5)
    assert moved.loc["tea", "decay"] < 0
    assert not moved[["new_events", "new_model", "new_item"]].to_numpy().any()


def test_an_event_is_told_from_the_new_model_that_came_with_it(tmp_path: Path) -> None:
    moved = diff.of_user(*nights(tmp_path, retrained=True), "bob").set_index("item_id")
    assert moved.loc["tea", "new_events"] > 0
    assert (moved.drop("tea")["new_events"] == 0).all()
    assert (moved["new_model"] != 0).any()


@pytest.mark.parametrize("retrained", [False, True])
def test_the_totals_are_those_of_all_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retrained: bool) -> None:
    monkeypatch.setattr(diff, "BLOCK_PAIRS", 1)  # a user a block
    early, late = nights(tmp_path, retrained)
    of_users = [diff.of_user(early, late, user_id) for user_id in ("ann", "bob", "cid")]
    (total,) = diff.totals(early, late).to_dict("records")
    for name, value in total.items():
        assert value == pytest.approx(sum(moved[name].sum() for moved in of_users))


def test_nights_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    early, late = nights(tmp_path)
    with pytest.raises(ConfigError, match="earlier night first"):
        diff.of_user(late, early, "ann")


def test_the_audience_of_an_item_are_the_users_above_the_threshold(tmp_path: Path) -> None:
    _, night = nights(tmp_path)
    scores = {user: float(Scorer(tmp_path).score(user, ["tea"])["score"].iloc[0]) for user in ("ann", "bob", "cid")}
    above = sorted(scores.values())[0]
    found = audience.of_item(night, "tea", above)
    assert found["user_id"].tolist() == sorted(scores, key=lambda user: -scores[user])[:2]
    assert found["score"].tolist() == pytest.approx(sorted(scores.values(), reverse=True)[:2], abs=1e-6)


def test_the_audience_of_a_category_is_read_from_its_table_and_written_as_asked(tmp_path: Path) -> None:
    store = Warehouse(tmp_path)
    published.publish_model(store)
    interest = [("ann", "drinks", 1.0, 0.63), ("bob", "drinks", 0.1, 0.1), ("cid", "food", 2.0, 0.86)]
    published.publish_night(store, FIRST, interest=interest)
    night = PublishedNight(store)
    found = audience.of_category(night, "drinks", 0.5)
    assert found["user_id"].tolist() == ["ann"]
    with pytest.raises(UnknownIdError, match="'toys'"):
        audience.of_category(night, "toys", 0.5)
    for name in ("a.csv", "a.parquet"):
        audience.write(found, tmp_path / name)
    assert pq.read_table(tmp_path / "a.parquet")["user_id"].to_pylist() == ["ann"]
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith('"ann",0.63')
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet"):
        audience.write(found, tmp_path / "a.txt")


def test_the_commands_print_what_moved_and_who(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path)
    config = ["--config", str(published.config(tmp_path))]
    asked = ["diff", str(FIRST), str(SECOND), "--json", *config]
    assert cli.main([*asked, "--user", "bob", "-n", "1"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["item_id"] == "tea"
    assert cli.main(asked) == 0
    assert set(json.loads(capsys.readouterr().out)[0]) == {"before", "after", *diff.REASONS}
    assert cli.main(["audience", "--item", "tea", "--above", "0", *config]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "user_id,score"
    assert cli.main(["audience", "--item", "beer", "--above", "0", *config]) == 2
