"""A small network trained on a generated log: what it learns beside what is true. In full: scripts/bench truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from halflife.config import ModelConfig, ScoreConfig, TrainConfig
from halflife.memory import Pace, States, fold
from halflife.model import artifact
from halflife.model.artifact import Model
from halflife.synthetic import SHOP, SyntheticLog, generate
from halflife.training.examples import History
from halflife.training.loop import train_rank
from halflife.training.ranks import use_one_core
from halflife.training.task import TrainingTask
from synthetic_histories import end_of, histories_of
from training_log import row_of, write_rows

# While pytest collects: once the tests of another file have used TensorFlow, it is too late.
use_one_core()

USERS, ITEMS, DAYS = 120, 1_000, 365
SCORE = ScoreConfig()
Event = tuple[int, int, float]


@pytest.fixture(scope="module")
def log() -> SyntheticLog:
    return generate(SHOP, USERS, ITEMS, DAYS, seed=5)


@pytest.fixture(scope="module")
def histories(log: SyntheticLog) -> list[History]:
    return histories_of(log)


@pytest.fixture(scope="module")
def model(log: SyntheticLog, histories: list[History], tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Trained for a few seconds."""
    folder = tmp_path_factory.mktemp("truth")
    write_rows(folder / "rows", [row_of(history.columns) for history in histories], [USERS // 4] * 4)
    items = log.items[["item_id", "category"]].assign(item_index=range(ITEMS))
    items.to_parquet(folder / "items.parquet", index=False)
    sizes = {"vector_size": 8, "lstm_units": (16, 8), "jump_units": 8, "half_lives_days": (1.0, 3.0, 10.0, 30.0)}
    train = {"ranks": 1, "epochs": 6, "users_per_batch": 16, "tensorboard": None, "catch_up_epochs": 0}
    task = TrainingTask(
        rows=folder / "rows",
        items=folder / "items.parquet",
        model_directory=folder / "model",
        progress_file=folder / "progress.jsonl",
        event_types=tuple(log.event_types["name"]),
        as_of_seconds=end_of(log),
        sequence_length=16,
        model=ModelConfig.model_validate({**sizes, "stretch": True, "half_life_days": 10.0}),
        train=TrainConfig.model_validate(train),
        config={},
    )
    train_rank(task)
    return artifact.load(task.model_directory)


def jumps_of(model: Model, history: History) -> np.ndarray:
    gap, revisit_gap = (np.expm1(history.columns[name].astype(float)) for name in ("gap_log", "revisit_gap_log"))
    user = np.full(len(history), history.user)
    return model.jumps({**history.columns, "gap_seconds": gap, "revisit_gap_seconds": revisit_gap, "user_index": user})


def test_users_keep_their_interest_as_long_as_in_truth(
    log: SyntheticLog, histories: list[History], model: Model
) -> None:
    """By how much of what a user's events leave is left after a while."""
    left = np.exp2(-10.0 / model.half_lives_days)
    kept = [np.average(left, weights=jumps_of(model, history).sum(axis=0)) for history in histories]
    true = log.users["stretch"].to_numpy()[[history.user for history in histories]]
    assert spearmanr(kept, true).statistic > 0.7


def test_kinds_of_event_are_remembered_in_the_order_of_their_true_half_lives(
    log: SyntheticLog, histories: list[History], model: Model
) -> None:
    jumps = np.concatenate([jumps_of(model, history) for history in histories])
    kind = np.concatenate([history.type for history in histories])
    left = np.exp2(-10.0 / model.half_lives_days)
    view, purchase = (np.average(left, weights=jumps[kind == place].sum(axis=0)) for place in (0, 2))
    assert view < purchase


def flagged(pace: Pace, events: list[Event], jumps: np.ndarray, negative: np.ndarray) -> set[Event]:
    """Which events revive their pair: memory is looked at after each event that ended a silence."""
    frame = pd.DataFrame(events, columns=["user", "item", "seconds"])
    rows = [np.asarray(places) for places in frame.groupby(["user", "item"]).indices.values()]
    seconds = frame["seconds"].to_numpy()
    looks = [
        places[: end + 1]
        for places in rows
        for end in range(1, len(places))
        if seconds[places[end]] - seconds[places[end - 1]] > 15 * 86_400
    ]
    place = np.concatenate(looks)
    taken = negative[place, None]
    states = States(
        time=(seconds[place] * 1e6).astype(np.int64),
        events=np.ones(len(place), dtype=np.int64),
        revived=np.zeros(len(place), dtype=np.bool_),
        positive=jumps[place] * ~taken,
        negative=jumps[place] * taken,
        leading_time=(seconds[place] * 1e6).astype(np.int64),
        leading_type=np.zeros(len(place), dtype=np.int32),
        leading=jumps[place],
    )
    revived = fold(states, np.array([len(look) for look in looks]), pace).revived
    return {events[look[-1]] for look, is_revived in zip(looks, revived, strict=True) if is_revived}


def events_of(histories: list[History]) -> list[Event]:
    return [
        (history.user, int(item), round(float(seconds), 3))
        for history in histories
        for item, seconds in zip(history.item, history.seconds, strict=True)
    ]


def true_revivals(log: SyntheticLog, planted_only: bool = False) -> set[Event]:
    rows = log.revivals[log.revivals["planted"]] if planted_only else log.revivals
    user, item = (
        pd.Index(log.__dict__[f"{part}s"][f"{part}_id"]).get_indexer(rows[f"{part}_id"]) for part in ("user", "item")
    )
    seconds = (rows["event_time"] - pd.Timestamp(0, tz="UTC")).dt.total_seconds().round(3)
    return set(zip(user.tolist(), item.tolist(), seconds.tolist(), strict=True))


def test_the_learned_memory_flags_revivals(log: SyntheticLog, histories: list[History], model: Model) -> None:
    pace = Pace(model.half_lives_days, 7.0, SCORE.revival_retained_share, SCORE.revival_silence_days)
    jumps = np.concatenate([jumps_of(model, history) for history in histories])
    negative = np.concatenate([history.strength < 0 for history in histories])
    found, true, planted = (
        flagged(pace, events_of(histories), jumps, negative),
        true_revivals(log),
        true_revivals(log, planted_only=True),
    )
    assert len(found & true) >= 0.8 * len(found)
    assert len(found & planted) >= 0.8 * len(planted)


def test_the_true_memory_flags_the_true_revivals() -> None:
    """Where every half-life is known, the flag is what the generator says."""
    log = generate(replace(SHOP, max_rho=0.0), 60, 60, 240, seed=5)
    histories = histories_of(log)
    kind = np.concatenate([history.type for history in histories])
    strength = np.concatenate([history.strength for history in histories])
    jumps = np.abs(strength)[:, None] * np.eye(len(log.event_types))[kind]
    pace = Pace(log.domain.half_lives_days, 7.0, SCORE.revival_retained_share, SCORE.revival_silence_days)
    found, true = flagged(pace, events_of(histories), jumps, strength < 0), true_revivals(log)
    assert len(true) > 100
    assert len(found & true) >= 0.99 * max(len(found), len(true))
