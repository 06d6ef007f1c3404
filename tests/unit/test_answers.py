"""Scores of a published night at any instant: against the closed form written out, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import published_warehouse as published
from halflife import Scorer
from halflife.decay import SECONDS_PER_DAY, decay, decay_integral
from halflife.errors import ConfigError, InputMissingError, ModelError, UnknownIdError
from halflife.nights import instant
from halflife.warehouse import Warehouse

NIGHT = published.TRAINED
LATER = datetime(2026, 3, 6, 17, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Warehouse(tmp_path_factory.mktemp("warehouse"))
    published.publish_model(store)
    published.publish_night(store, NIGHT)
    return store.root


def expected(root: Path, user: int, item: int, at: datetime) -> tuple[float, float]:
    """Affinity and memory of a pair over the horizon, event by event."""
    model = published.model_of(Warehouse(root), NIGHT)
    rows = published.events_table(published.EVENTS)
    rows = rows[rows["user_index"] == user]
    side, half_lives = model.item_side(len(published.ITEMS)), model.half_lives_days
    logit = float(side.bias[item])
    if len(rows):
        readouts = np.random.default_rng(user).normal(size=12).reshape(3, 4)
        days = (at - rows["event_time"].max()).total_seconds() / SECONDS_PER_DAY + model.horizon_days / 2
        logit += float(decay(days, half_lives) @ readouts @ side.vectors[item])
    memory = 0.0
    jumps = model.jumps({name: rows[name].to_numpy() for name in rows.columns})
    for jump, event in zip(jumps, rows.to_dict("records"), strict=True):
        if event["item_index"] == item:
            days = (at - event["event_time"]).total_seconds() / SECONDS_PER_DAY
            left = float(jump @ decay_integral(days, half_lives, model.horizon_days))
            memory += np.sign(event["strength"]) * left
    return model.horizon_days * np.exp(logit), memory


@pytest.mark.parametrize("at", [instant(NIGHT), LATER])
def test_a_score_is_the_closed_form_of_the_users_own_events_at_any_instant(root: Path, at: datetime) -> None:
    scorer = Scorer(root)
    for user, user_id in enumerate(published.USERS[:3]):
        assert user_id is not None
        scores = scorer.score(user_id, published.ITEMS, at)
        for item, row in enumerate(scores.to_dict("records")):
            affinity, memory = expected(root, user, item, at)
            assert row["item_id"] == published.ITEMS[item]
            np.testing.assert_allclose([row["affinity"], row["memory"]], [affinity, memory], rtol=1e-5)
            np.testing.assert_allclose(row["score"], -np.expm1(-max(affinity + memory, 0)), atol=1e-6)


def test_a_user_without_events_gets_the_popularity_at_any_time(root: Path) -> None:
    scorer = Scorer(root)
    side = published.model_of(Warehouse(root), NIGHT).item_side(len(published.ITEMS))
    tonight, later = (scorer.score("cid", published.ITEMS, at) for at in (None, LATER))
    np.testing.assert_allclose(tonight["affinity"], 7 * np.exp(side.bias), rtol=1e-5)
    assert tonight.equals(later)


def test_all_items_come_in_the_order_of_their_ids_and_any_of_them_in_the_order_asked(root: Path) -> None:
    scorer = Scorer(root)
    everything = scorer.score("ann").set_index("item_id")
    assert everything.index.tolist() == sorted(published.ITEMS)
    asked = scorer.score("ann", ["soap", "milk", "soap"])
    assert asked["item_id"].tolist() == ["soap", "milk", "soap"]
    np.testing.assert_array_equal(asked["score"], everything.loc[["soap", "milk", "soap"], "score"])


def test_the_top_is_by_score_and_leaves_out_what_nothing_is_expected_of(root: Path) -> None:
    scorer = Scorer(root)
    scores = scorer.score("ann").sort_values("score", ascending=False)
    assert (scores["score"] == 0).sum() == 1, "the cancelled item"
    best = scorer.top("ann", 4)
    assert best["item_id"].tolist() == scores["item_id"].tolist()[:3]
    assert best["rank"].tolist() == [1, 2, 3]
    assert dict(zip(best["item_id"], best["title"], strict=True))["bread"] == "Bread"


def test_the_law_of_a_night_without_a_model_is_its_manifests(tmp_path: Path) -> None:
    store = Warehouse(tmp_path)
    published.publish_night(store, NIGHT, law_days=10.0)
    (row,) = Scorer(tmp_path).score("ann", ["bread"], instant(NIGHT) + timedelta(days=9.75)).to_dict("records")
    np.testing.assert_allclose(row["memory"], 3 * decay_integral(10.0, [10.0], 7.0)[0], rtol=1e-6)
    assert row["affinity"] == 0


def test_the_last_night_answers_unless_another_is_named(root: Path, tmp_path: Path) -> None:
    store = Warehouse(tmp_path)
    published.publish_model(store)
    nights = [NIGHT, NIGHT + timedelta(days=1)]
    for night in nights:
        published.publish_night(store, night)
    assert Scorer(tmp_path).as_of == nights[1]
    assert Scorer(tmp_path, nights[0]).as_of == nights[0]


def test_what_is_not_there_is_said_in_the_hierarchy_of_errors(root: Path, tmp_path: Path) -> None:
    scorer = Scorer(root)
    with pytest.raises(UnknownIdError, match="none of the 3 users") as unknown:
        scorer.score("dora")
    assert isinstance(unknown.value, KeyError)
    assert "dora" not in str(unknown.value), "whoever logs the error must not log whom it is about"
    with pytest.raises(UnknownIdError, match="'beer' is none of the 4 items"):
        scorer.score("ann", ["tea", "beer"])
    with pytest.raises(ConfigError, match="before the night"):
        scorer.score("ann", at=date(2026, 2, 1))
    with pytest.raises(InputMissingError, match="no night 2020-01-01"):
        Scorer(root, date(2020, 1, 1))
    with pytest.raises(InputMissingError, match="no night is published"):
        Scorer(tmp_path)


def test_a_night_whose_model_was_replaced_is_not_answered_by_another(tmp_path: Path) -> None:
    store = Warehouse(tmp_path)
    published.publish_model(store)
    published.publish_night(store, NIGHT)
    published.publish_model(store, seed=4)
    with pytest.raises(ModelError, match="not published any more"):
        Scorer(tmp_path)


def test_answers_load_neither_spark_nor_tensorflow(root: Path) -> None:
    code = (
        "import sys, halflife\n"
        "assert not {'numpy', 'pyarrow'} & set(sys.modules), 'to import halflife alone is cheap'\n"
        f"halflife.Scorer({str(root)!r}).top('ann', 2)\n"
        "print(sorted({'pyspark', 'py4j', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
