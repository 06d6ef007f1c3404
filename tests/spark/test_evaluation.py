"""The backtest on Spark against plain Python on small logs: protocol, rankings, probabilities, and no look ahead."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T
from scipy.optimize import minimize
from sklearn import metrics as sk

from halflife import schemas
from halflife.alarms import Watch
from halflife.config import AlarmsConfig, AlsConfig, EvaluateConfig
from halflife.errors import InputMissingError
from halflife.evaluation import backtest, every_pair, protocol, trust
from halflife.evaluation.backtest import Night
from halflife.evaluation.contest import Setting
from halflife.evaluation.every_pair import PublishedScores
from halflife.evaluation.ranking import ModelInputs, PublishedLists
from halflife.evaluation.rates import HALF_LIFE, Universe
from halflife.evaluation.revival import Revivals
from halflife.evaluation.rows import MetricRow
from halflife.evaluation.scorer import ModelScorer

CUT = datetime(2026, 3, 1, tzinfo=UTC)
PERSONAL = ("popularity", "recency", "personal_frequency", "half_life_tuned")
OPTIONS = EvaluateConfig(
    baselines=(*PERSONAL, "constant_rate"),
    min_users_per_item=2,
    cutoffs=(2, 10),
    half_lives_days=(5.0, 50.0),
    reported_half_lives_days=(90.0,),
    users_per_block=3,
    bootstrap_replicates=50,
)
EVERY_BASELINE = OPTIONS.model_copy(
    update={"baselines": EvaluateConfig().baselines, "als": (AlsConfig(rank=2, iterations=1),)}
)
TUNED = {name: Setting(name, 20.0 if name == HALF_LIFE else None) for name in PERSONAL}


class Event(NamedTuple):
    user: int
    session: str
    item: int
    day: float  # after the cut
    kind: str = "purchase"
    strength: float = 1.0

    @property
    def time(self) -> datetime:
        return CUT + timedelta(days=self.day)


EVENT_COLUMNS = ("user_index", "user_id", "session_id", "item_index", "item_id", "event_type", "event_time", "strength")


# What the evaluation reads of MEMORY.
MEMORY = T.StructType(
    [
        schemas.MEMORY[name]
        for name in ("user_index", "item_index", "anchor_time", "positive", "negative", "event_count", "revived")
    ]
)


def log(spark: SparkSession, events: Sequence[Event]) -> DataFrame:
    rows = [
        (e.user, f"u{e.user}", e.session, e.item, f"i{e.item}", e.kind, e.time, e.strength)
        for e in random.Random(0).sample(events, len(events))
    ]
    fields = [schemas.EVENTS[name] for name in EVENT_COLUMNS]
    return spark.createDataFrame(rows, T.StructType(fields))


def shopping(seed: int, users: int = 9, items: int = 12, baskets: int = 8) -> list[Event]:
    """A random log from 80 days before the cut to 20 days after it."""
    chance = random.Random(seed)
    events = []
    for user in range(users):
        favourites = [chance.randrange(items) for _ in range(3)]
        for basket in range(baskets):
            day = chance.uniform(-80, 20)
            bought = {chance.choice([*favourites, chance.randrange(items)]) for _ in range(chance.randint(1, 4))}
            events += [Event(user, f"{user}-{basket}", item, day + place / 1e3) for place, item in enumerate(bought)]
    return events


def cases(spark: SparkSession, events: Sequence[Event], until: datetime | None = None) -> dict[int, dict[str, Any]]:
    """The protocol's cases by user, with item indices instead of columns."""
    baskets = protocol.basket_rows(log(spark, events), ["purchase"], CUT, until)
    kept = protocol.catalogue(baskets, min_users_per_item=2)
    inside = protocol.in_columns(baskets, kept)
    rows = protocol.cases(inside, protocol.histories(inside), CUT, horizon_days=3.0).collect()

    def items(columns: list[int] | None) -> list[int] | None:
        return None if columns is None else sorted(kept.item_indices[columns].tolist())

    return {
        row["user_index"]: {
            "at": datetime.fromtimestamp(row["at_seconds"], UTC),
            "next": items(row["next_columns"]),
            "horizon": items(row["horizon_columns"]),
            "history": items(row["history_columns"]),
        }
        for row in rows
    }


# Items 1 and 2 have two buyers before the cut, item 3 has one; user 3 has no history.
SMALL = [
    Event(1, "a", 1, -9.0),
    Event(1, "a", 1, -8.9),
    Event(1, "b", 1, -5.0),
    Event(1, "b", 3, -5.0),
    Event(2, "c", 1, -4.0),
    Event(2, "c", 2, -4.0),
    Event(1, "d", 2, -1.0),
    Event(1, "d", 2, -1.0, kind="view"),
    Event(1, "e", 3, 1.0),
    Event(1, "f", 2, 2.5),
    Event(1, "f", 3, 2.0),
    Event(1, "f", 1, 2.6),
    Event(1, "g", 1, 4.0),
    Event(2, "h", 2, 0.0),
    Event(2, "i", 1, -1e-9, kind="view"),
    Event(3, "j", 1, 3.0),
]


def test_the_truth_is_the_first_session_with_kept_items_and_rows_are_unique(spark: SparkSession) -> None:
    found = cases(spark, SMALL)
    # Session e holds no kept item; in f the unkept item came first, and is no part of the basket.
    first = {"at": CUT + timedelta(days=2.5), "next": [1, 2], "horizon": [1, 2], "history": [1, 1, 2]}
    assert found[1] == first
    assert found[2] == {"at": CUT, "next": [2], "horizon": [2], "history": [1, 2]}, "an event at the cut is not history"
    assert found[3] == {"at": CUT + timedelta(days=3), "next": [1], "horizon": None, "history": None}, "a new user"
    assert set(found) == {1, 2, 3}


def test_nothing_from_the_end_of_validation_on_is_seen(spark: SparkSession) -> None:
    found = cases(spark, SMALL, until=CUT + timedelta(days=2.5))
    assert set(found) == {2}


def test_columns_are_by_popularity_then_by_id_with_numbers_in_their_order(spark: SparkSession) -> None:
    events = [Event(user, f"{user}", item, -1.0) for user in (1, 2) for item in (2, 10, 9)]
    frame = log(spark, [*events, Event(3, "3", 10, -2.0)])
    kept = protocol.catalogue(protocol.basket_rows(frame, ["purchase"], CUT), min_users_per_item=2)
    assert kept.item_indices.tolist() == [10, 2, 9]
    assert kept.popularity.tolist() == [3, 2, 2]


# A user's history as (item, age in days at the next basket) to a score by item.
Score = Callable[[list[tuple[int, float]]], Mapping[int, float]]


def oracle(events: Sequence[Event], score: Score, cutoff: int) -> tuple[float, float]:
    """Mean recall and NDCG of the protocol, in plain Python; items without a score have 0."""
    rows: dict[tuple[int, str, int], float] = {}
    for e in sorted(events, key=lambda e: -e.day):
        rows[e.user, e.session, e.item] = e.day  # the earliest stays; no session of `shopping` spans the cut
    buyers, popularity = defaultdict(set), Counter[int]()
    for (user, _, item), day in rows.items():
        if day < 0:
            buyers[item].add(user)
            popularity[item] += 1
    kept = [item for item in buyers if len(buyers[item]) >= 2]
    recalls, gains = [], []
    for user in {user for user, *_ in rows}:
        mine = [(day, session, item) for (u, session, item), day in rows.items() if u == user and item in kept]
        after = sorted(row for row in mine if row[0] >= 0)
        history = [(item, after[0][0] - day) for day, _, item in mine if day < 0 and after]
        if not history:
            continue
        truth = {item for _, session, item in after if session == after[0][1]}
        scores = score(history)
        order = sorted(kept, key=lambda item: (-scores.get(item, 0.0), -popularity[item], item))
        hits = [item in truth for item in order[:cutoff]]
        ideal = sum(1 / np.log2(place + 2) for place in range(min(cutoff, len(truth))))
        recalls.append(sum(hits) / len(truth))
        gains.append(sum(hit / np.log2(place + 2) for place, hit in enumerate(hits)) / ideal)
    return float(np.mean(recalls)), float(np.mean(gains))


def decayed(half_life_days: float) -> Score:
    """Decayed purchase counts, rounded so that equal sums are equal in any order of adding."""

    def score(history: list[tuple[int, float]]) -> Mapping[int, float]:
        sums: dict[int, float] = defaultdict(float)
        for item, age in history:
            sums[item] += 2.0 ** (-age / half_life_days)
        return {item: round(total, 9) for item, total in sums.items()}

    return score


def values_of(rows: Sequence[MetricRow], model: str, segment: str = "all") -> dict[str, float]:
    chosen = (row for row in rows if row.model == model and row.segment == segment and row.baseline is None)
    return {row.metric: row.value for row in chosen}


def test_every_personal_baseline_is_the_oracles(spark: SparkSession) -> None:
    events = shopping(seed=1)
    rows = backtest.ranking_metrics(log(spark, events), Night(CUT.date(), 7.0), TUNED, OPTIONS)
    rankings = {
        "popularity": lambda _history: {},
        "recency": lambda history: {item: 1 / (1 + min(a for i, a in history if i == item)) for item, _ in history},
        "personal_frequency": decayed(np.inf),
        HALF_LIFE: decayed(20.0),
        "half_life_90d": decayed(90.0),
    }
    assert {row.model for row in rows} == set(rankings)
    for model, score in rankings.items():
        for cutoff in OPTIONS.cutoffs:
            recall, ndcg = oracle(events, score, cutoff)
            found = values_of(rows, model)
            assert (found[f"recall@{cutoff}"], found[f"ndcg@{cutoff}"]) == pytest.approx((recall, ndcg)), model


def exponential_tables(spark: SparkSession, events: Sequence[Event], half_life_days: float) -> dict[str, DataFrame]:
    """USER_STATES and MEMORY of the classical law before the cut, event by event; every third user has no state."""
    pairs: dict[tuple[int, int], tuple[float, float]] = {}
    for e in sorted((e for e in events if e.day < 0), key=lambda e: e.day):
        amount, anchor = pairs.get((e.user, e.item), (0.0, e.day))
        pairs[e.user, e.item] = (amount * 2.0 ** (-(e.day - anchor) / half_life_days) + 1.0, e.day)
    memory = [
        (user, item, CUT + timedelta(days=anchor), [amount], [0.0], 1, False)
        for (user, item), (amount, anchor) in pairs.items()
    ]
    states = [(user, CUT, [0.0]) for user in {e.user for e in events} if user % 3]
    return {
        "states": spark.createDataFrame(states, schemas.USER_STATES),
        "memory": spark.createDataFrame(memory, MEMORY),
    }


def test_the_exponential_law_as_a_model_is_the_decayed_frequency(spark: SparkSession) -> None:
    events = shopping(seed=3)
    law = ModelScorer.exponential([30.0], horizon_days=7.0, items=12)
    model = ModelInputs("law", law, **exponential_tables(spark, events, 30.0))
    tuned = {**TUNED, HALF_LIFE: Setting(HALF_LIFE, 30.0)}
    rows = backtest.ranking_metrics(log(spark, events), Night(CUT.date(), 7.0, model=model), tuned, OPTIONS)
    assert values_of(rows, "law") == pytest.approx(values_of(rows, HALF_LIFE))
    differences = [row for row in rows if row.baseline == HALF_LIFE]
    assert len(differences) > 16
    assert {row.model for row in differences} == {"law"}
    assert all((row.value, row.low, row.high) == pytest.approx((0, 0, 0)) for row in differences if row.users > 1)


def test_published_lists_are_ranked_as_published(spark: SparkSession) -> None:
    # User 1 will buy items 1 and 2, user 2 item 2; item 3 is not kept, and user 2 has no list.
    lists = spark.createDataFrame([(1, 2, 3), (1, 1, 1), (1, 3, 2)], "user_index int, rank int, item_index int")
    night = Night(CUT.date(), 7.0, lists=PublishedLists("list", lists))
    rows = backtest.ranking_metrics(log(spark, SMALL), night, TUNED, OPTIONS)
    found = values_of(rows, "list")
    for metric in ("recall", "ndcg", "hit_rate", "mrr"):
        assert (found[f"{metric}@2"], found[f"{metric}@10"]) == (0.5, 0.5)
    assert found["coverage@2"] == 1.0, "both kept items are on a list"


def test_tuning_sees_nothing_from_the_night_on(spark: SparkSession) -> None:
    # Every other user buys nothing in the validation days: the next basket is one that tuning must not know.
    events = [e for e in shopping(seed=4) if e.user % 2 or not -28 <= e.day < 0]
    moved = [e._replace(item=(e.item + 5) % 12) if e.day >= 0 else e for e in events]
    night = Night(CUT.date(), 7.0)
    (tuned, chosen), again = (backtest.tune(log(spark, log_), night, EVERY_BASELINE) for log_ in (events, moved))
    assert (tuned, chosen) == again
    assert {row.users for row in tuned if not row.metric.startswith("horizon")} == {4}
    assert {row.segment for row in tuned} == {"tuning"}
    assert {row.night for row in tuned} == {CUT.date() - timedelta(days=28)}
    assert set(chosen) == set(EVERY_BASELINE.ranked)


def test_the_best_setting_is_that_of_the_highest_ndcg_and_the_shorter_of_equals() -> None:
    grid = [Setting(HALF_LIFE, days) for days in (5.0, 50.0)]

    def rows(short: float, long: float) -> list[MetricRow]:
        values = {"half_life_5d": short, "half_life_50d": long}
        return [MetricRow(CUT.date(), model, "tuning", "ndcg@10", value, 9) for model, value in values.items()]

    assert backtest.best(grid, rows(0.2, 0.3), 10) == grid[1]
    assert backtest.best(grid, rows(0.3, 0.3), 10) == grid[0]


def published(spark: SparkSession, folder: Path, scores: np.ndarray[Any, Any]) -> PublishedScores:
    """A score table in two files of several row groups, all of it affinity."""
    users, items = scores.shape
    score = scores.astype(np.float32).ravel()
    columns = {
        "user_id": np.repeat([f"u{user}" for user in range(users)], items),
        "item_id": np.tile([f"i{item}" for item in range(items)], users),
        "score": score,
        "affinity": -np.log1p(-score.astype(np.float64)),
        "memory": np.zeros(score.size),
    }
    table, half = pa.table(columns), users // 2 * items
    files = [folder / "a.parquet", folder / "b.parquet"]
    for file, rows in zip(files, (table[:half], table[half:]), strict=True):
        pq.write_table(rows, file, row_group_size=3 * items + 1)  # a user may lie in two
    everyone = spark.createDataFrame([(user, f"u{user}") for user in range(users)], "user_index int, user_id string")
    return PublishedScores("model", files, everyone, Universe(users, items, users))


def test_probabilities_are_judged_as_scikit_learn_does_over_all_pairs(spark: SparkSession, tmp_path: Path) -> None:
    events = [
        *shopping(seed=5, users=40, items=30),
        Event(99, "new user", 1, 1.0),
        Event(0, "n", 7, 1.0, strength=-1.0),
    ]
    known = {(e.user, e.item) for e in events if e.day < 0}
    scores = (np.random.default_rng(0).random((40, 30)) ** 4).astype(np.float32)
    scores[5] = np.nextafter(np.float32(1), np.float32(0))
    labels, strength = np.zeros(scores.shape), np.zeros(scores.shape)
    for e in events:
        if 0 <= e.day < 7 and e.user < 40 and e.strength > 0:
            labels[e.user, e.item] = 1
            strength[e.user, e.item] += e.strength
    ours = published(spark, tmp_path, scores)
    rows = every_pair.probability_metrics(log(spark, events), CUT, 7.0, ours, 20.0, OPTIONS)
    found, truth = values_of(rows, "model"), (labels.ravel(), scores.ravel().astype(np.float64))
    eps = np.finfo(np.float32).eps
    assert found["log_loss"] == pytest.approx(sk.log_loss(truth[0], np.clip(truth[1], eps, 1 - eps)))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(*truth))
    assert found["auc"] == pytest.approx(sk.roc_auc_score(*truth), abs=1e-3)
    assert found["base_rate"] == pytest.approx(labels.mean())
    assert found["mean_score"] == pytest.approx(scores.mean(dtype=np.float64))
    octave = values_of(rows, "model", "score:2^-3")
    inside = (truth[1] >= 1 / 8) & (truth[1] < 1 / 4)
    assert (octave["pairs"], octave["base_rate"]) == (inside.sum(), pytest.approx(truth[0][inside].mean()))
    order = np.argsort(truth[1], kind="stable").reshape(10, -1)
    expected = np.abs(truth[1][order].mean(axis=1) - truth[0][order].mean(axis=1)).mean()
    assert found["calibration_error"] == pytest.approx(expected, abs=2e-3)

    forecast = -np.log1p(-scores.astype(np.float64)).ravel()
    assert found["strength_mse"] == pytest.approx(sk.mean_squared_error(strength.ravel(), forecast))
    assert found["strength_mae"] == pytest.approx(sk.mean_absolute_error(strength.ravel(), forecast))
    assert found["strength_r2"] == pytest.approx(sk.r2_score(strength.ravel(), forecast))

    repeat = np.array([[(user, item) in known for item in range(30)] for user in range(40)])
    for segment, inside in (("item:repeat", repeat), ("item:new", ~repeat)):
        found = values_of(rows, "model", segment)
        assert found["brier"] == pytest.approx(sk.brier_score_loss(labels[inside], scores[inside].astype(np.float64)))
    assert {row.users for row in rows} == {40}


def test_rates_are_fitted_before_the_night_and_judged_over_all_pairs(spark: SparkSession, tmp_path: Path) -> None:
    users, items, half_life = 30, 20, 20.0
    events = shopping(seed=7, users=users, items=items, baskets=30)
    ours = published(spark, tmp_path, np.full((users, items), 0.1))
    rows = every_pair.probability_metrics(log(spark, events), CUT, 7.0, ours, 20.0, OPTIONS)

    def matrices(cut: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        x, y = np.zeros((users, items)), np.zeros((users, items))
        for e in events:
            if e.day < cut:
                x[e.user, e.item] += 2.0 ** ((e.day - cut) / half_life)
            elif e.day < cut + 7:
                y[e.user, e.item] += 1
        return x, y

    (before, came), (x, y) = matrices(-7.0), matrices(0.0)
    constant = (came > 0).mean()
    found = values_of(rows, "constant_rate")
    assert found["mean_score"] == pytest.approx(constant)
    assert found["log_loss"] == pytest.approx(sk.log_loss((y > 0).ravel(), np.full(y.size, constant)))
    assert found["auc"] == 0.5

    law = values_of(rows, HALF_LIFE)
    factor = (before * came).sum() / (before**2).sum()
    assert law["strength_r2"] == pytest.approx(sk.r2_score(y.ravel(), (factor * x).ravel()))
    assert law["strength_mae"] == pytest.approx(sk.mean_absolute_error(y.ravel(), (factor * x).ravel()))

    def losses(weights: np.ndarray[Any, Any], x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
        expected = weights[0] * x + weights[1] * x.sum(axis=0) + weights[2]
        return float(sk.log_loss((y > 0).ravel(), -np.expm1(-np.maximum(expected, 1e-9)).ravel()))

    best = minimize(losses, [0.1, 0.01, 0.01], args=(before, came), method="L-BFGS-B", bounds=[(1e-9, None)] * 3)
    assert law["log_loss"] == pytest.approx(losses(best.x, x, y), rel=0.01), "sizes are gathered in steps of 9 %"
    assert law["log_loss"] < values_of(rows, "popularity")["log_loss"] < values_of(rows, "constant_rate")["log_loss"]


class Habits(NamedTuple):
    """A log of users who buy some items nearly every week and any item sometimes; the true probabilities; and the
    figure that tells other pairs' scores from them."""

    events: DataFrame
    scores: np.ndarray[Any, Any]
    tells: str


@pytest.fixture(
    scope="module",
    params=[(40, 0.2, 0.01, "log_loss_lead"), (400, 0.02, 0.0005, "repeat_calibration")],
    ids=["half of the pairs known", "a few known"],
)
def habits(spark: SparkSession, request: pytest.FixtureRequest) -> Habits:
    items, highest, lowest, tells = request.param
    random, users = np.random.default_rng(3), 60
    rates = np.tile(np.geomspace(highest, lowest, items), (users, 1))
    for user in range(users):
        rates[user, random.choice(items, 3, replace=False)] = 0.9
    happens = random.random((13, users, items)) < -np.expm1(-rates)
    events = [
        Event(user, f"{user}-{week}", item, 7.0 * (week - 12) + 1 + item / items)
        for week, user, item in np.argwhere(happens).tolist()
    ]
    return Habits(log(spark, events).persist(), -np.expm1(-rates), tells)


# The alarm that each has to raise; None: that of the log.
BROKEN: dict[str, tuple[Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], str | None]] = {
    "scaled by 3": (lambda scores: np.minimum(3 * scores, 0.999), "calibration"),
    "shuffled": (lambda scores: np.random.default_rng(0).permuted(scores), None),
    "of yesterday's user": (lambda scores: np.roll(scores, 1, axis=0), None),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_model_raises_the_alarm_that_fits(
    spark: SparkSession, tmp_path: Path, habits: Habits, broken: str
) -> None:
    damage, expected = BROKEN[broken]
    raised = alarms_of(spark, tmp_path, habits, damage(habits.scores))
    assert (expected or habits.tells) in raised


def test_true_probabilities_raise_no_alarm(spark: SparkSession, tmp_path: Path, habits: Habits) -> None:
    assert not alarms_of(spark, tmp_path, habits, habits.scores)


def alarms_of(spark: SparkSession, folder: Path, habits: Habits, scores: np.ndarray[Any, Any]) -> set[str]:
    """The alarms that scores raise by the bounds of the default config."""
    options = OPTIONS.model_copy(update={"baselines": ("popularity",)})
    rows = every_pair.probability_metrics(habits.events, CUT, 7.0, published(spark, folder, scores), 20.0, options)
    watch = Watch(AlarmsConfig(), [])
    for figure, value in trust.figures(rows, "model", "no lists", 10).items():
        watch.figures(figure, {figure: value})
    assert set(watch.watched) == {"calibration", "repeat_calibration", "log_loss_lead"}
    return {alarm.figure for alarm in watch.raised}


def test_revivals_are_judged_by_what_follows(spark: SparkSession) -> None:
    # Pairs (user, item): gap before the newest event, the day of that, flagged, and the day of what follows.
    pairs = {
        (0, 0): (50.0, -2.0, True, 3.0),
        (0, 1): (50.0, -2.0, True, None),
        (1, 0): (50.0, -2.0, False, 1.0),
        (1, 1): (5.0, -2.0, False, None),
        (2, 0): (50.0, -20.0, True, 1.0),  # too long ago to be news
        (2, 1): (50.0, -2.0, True, 9.0),  # after the horizon
    }
    events, memory = [], []
    for (user, item), (gap, day, flagged, follows) in pairs.items():
        events += [Event(user, f"{user}{item}a", item, day - gap), Event(user, f"{user}{item}b", item, day)]
        events += [] if follows is None else [Event(user, f"{user}{item}c", item, follows)]
        memory.append((user, item, CUT + timedelta(days=day), [1.0], [0.0], 2, flagged))
    frame = log(spark, events)
    before = Window.partitionBy("user_index", "item_index").orderBy("event_time")
    seconds = F.unix_micros("event_time") / F.lit(1e6)
    frame = frame.withColumn("revisit_gap_seconds", seconds - F.lag(seconds).over(before))
    revivals = Revivals(spark.createDataFrame(memory, MEMORY), silence_days=30.0)
    found = values_of(backtest.revival_metrics(frame, Night(CUT.date(), 7.0), revivals), "memory")
    assert found == pytest.approx(
        {
            "revival_precision": 1 / 3,
            "revival_base_rate": 1 / 2,
            "revival_recall": 1 / 2,
            "revival_lead_days": 3.0,
            "revival_flagged": 3.0,
        }
    )


def test_segments_are_of_users_and_of_items(spark: SparkSession) -> None:
    both = OPTIONS.model_copy(update={"event_types": ("purchase", "view")})
    rows = backtest.ranking_metrics(log(spark, SMALL), Night(CUT.date(), 7.0), TUNED, both)
    users = {row.segment: row.users for row in rows if row.metric == "recall@10" and row.model == "popularity"}
    # User 1 has three sessions of which the last is a day old, user 2 has two; user 3 is new.
    assert users == {
        "all": 2, "history:2-5": 2, "silence:0-6d": 2, "item:repeat": 2, "type:purchase": 2, "user:new": 1
    }  # fmt: skip


def test_the_whole_backtest_is_one_table(spark: SparkSession, tmp_path: Path) -> None:
    events = shopping(seed=6)
    scores = published(spark, tmp_path, np.full((9, 12), 0.1))
    nights = [Night(CUT.date(), 7.0, scores=scores), Night(CUT.date() + timedelta(days=1), 7.0)]
    stages: list[str] = []

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        stages.append(name)
        yield

    frame = log(spark, events)
    found = backtest.evaluate(frame, nights, EVERY_BASELINE, stage)
    table = found.table(frame)
    assert [field.dataType for field in table.schema] == [field.dataType for field in schemas.METRICS]
    assert stages == ["tuning", "rankings 2026-03-01", "probabilities 2026-03-01", "rankings 2026-03-02"]
    rows = table.collect()
    keys = [(row.night, row.model, row.baseline, row.segment, row.metric) for row in rows]
    assert len(keys) == len(set(keys))
    everyone = {row.model for row in rows if row.segment == "all" and row.night == CUT.date()}
    assert everyone == {*EvaluateConfig().baselines, "half_life_90d", "model"}
    of_pairs = {"strength_r2", "log_loss", "auc", "brier", "calibration_error"}
    intervals = [row for row in rows if row.segment == "all" and row.metric in {"recall@10", *of_pairs}]
    assert {row.metric for row in intervals if row.baseline == HALF_LIFE} == of_pairs
    assert all(row.low <= row.value <= row.high for row in intervals if row.metric != "calibration_error")
    assert all(row.low is row.high is None for row in intervals if row.metric == "calibration_error")
    assert found.tuned_half_life_days in EVERY_BASELINE.half_lives_days


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([e for e in SMALL if e.day < 0], "nothing to compare with"),
        ([e for e in SMALL if e.day >= 0], "no item has 2 users"),
    ],
)
def test_a_night_with_nothing_to_compare_is_missing_input(
    spark: SparkSession, events: list[Event], message: str
) -> None:
    with pytest.raises(InputMissingError, match=message):
        backtest.ranking_metrics(log(spark, events), Night(CUT.date(), 7.0), TUNED, OPTIONS)


def test_an_empty_score_table_is_missing_input(spark: SparkSession, tmp_path: Path) -> None:
    empty = published(spark, tmp_path, np.zeros((4, 0)))
    with pytest.raises(InputMissingError, match="empty"):
        every_pair.probability_metrics(log(spark, SMALL), CUT, 7.0, empty, 20.0, OPTIONS)


def test_scores_of_other_users_than_the_nights_are_missing_input(spark: SparkSession, tmp_path: Path) -> None:
    ours = published(spark, tmp_path, np.full((4, 3), 0.1))
    fewer = replace(ours, users=ours.users.where("user_index != 2"))
    with pytest.raises(InputMissingError, match="not of the night's users"):
        every_pair.probability_metrics(log(spark, SMALL), CUT, 7.0, fewer, 20.0, OPTIONS)
