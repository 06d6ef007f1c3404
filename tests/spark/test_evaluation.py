"""The backtest on Spark against plain Python on small logs: protocol, rankings, probabilities, and no look ahead."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from sklearn import metrics as sk

from halflife import schemas
from halflife.config import EvaluateConfig
from halflife.errors import InputMissingError
from halflife.evaluation import backtest, probability, protocol
from halflife.evaluation.backtest import Night, PublishedScores
from halflife.evaluation.ranking import ModelInputs, PublishedLists
from halflife.evaluation.scorer import ModelScorer

CUT = datetime(2026, 3, 1, tzinfo=UTC)
OPTIONS = EvaluateConfig(
    min_users_per_item=2,
    cutoffs=(2, 10),
    half_lives_days=(5.0, 50.0),
    reported_half_lives_days=(90.0,),
    users_per_block=3,
)


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
    rows = protocol.cases(baskets, kept).collect()
    items = kept.item_indices
    return {
        row["user_index"]: {
            "at": datetime.fromtimestamp(row["at_seconds"], UTC),
            "truth": sorted(items[row["truth"]].tolist()),
            "history": sorted(items[row["history_columns"]].tolist()),
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
    assert set(found) == {1, 2}, "user 3 bought nothing before the cut"
    # Session e holds no kept item; in f the unkept item came first, and is no part of the basket.
    assert found[1] == {"at": CUT + timedelta(days=2.5), "truth": [1, 2], "history": [1, 1, 2]}
    assert found[2] == {"at": CUT, "truth": [2], "history": [1, 2]}, "an event at the cut is not history"


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


def values_of(rows: Sequence[backtest.MetricRow], model: str) -> dict[str, float]:
    return {row.metric: row.value for row in rows if row.model == model and row.segment == "all"}


def test_every_baseline_is_the_oracles(spark: SparkSession) -> None:
    events = shopping(seed=1)
    rows = backtest.next_basket_metrics(log(spark, events), Night(CUT.date()), 20.0, OPTIONS)
    rankings = {
        "popularity": lambda _history: {},
        "personal_frequency": decayed(np.inf),
        backtest.TUNED: decayed(20.0),
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
        "memory": spark.createDataFrame(memory, schemas.MEMORY),
    }


def test_the_exponential_law_as_a_model_is_the_decayed_frequency(spark: SparkSession) -> None:
    events = shopping(seed=3)
    law = ModelScorer.exponential([30.0], horizon_days=7.0, items=12)
    model = ModelInputs("law", law, **exponential_tables(spark, events, 30.0))
    rows = backtest.next_basket_metrics(log(spark, events), Night(CUT.date(), model=model), 30.0, OPTIONS)
    assert values_of(rows, "law") == pytest.approx(values_of(rows, backtest.TUNED))
    assert [row.users for row in rows if row.model == "law"] == [rows[0].users] * 4


def test_published_lists_are_ranked_as_published(spark: SparkSession) -> None:
    # User 1 will buy items 1 and 2, user 2 item 2; item 3 is not kept, and user 2 has no list.
    lists = spark.createDataFrame([(1, 2, 3), (1, 1, 1), (1, 3, 2)], "user_index int, rank int, item_index int")
    night = Night(CUT.date(), lists=PublishedLists("list", lists))
    rows = backtest.next_basket_metrics(log(spark, SMALL), night, 20.0, OPTIONS)
    assert values_of(rows, "list") == pytest.approx({"recall@2": 0.5, "recall@10": 0.5, "ndcg@2": 0.5, "ndcg@10": 0.5})


def test_tuning_sees_nothing_from_the_night_on(spark: SparkSession) -> None:
    # Every other user buys nothing in the validation days: the next basket is one that tuning must not know.
    events = [e for e in shopping(seed=4) if e.user % 2 or not -28 <= e.day < 0]
    moved = [e._replace(item=(e.item + 5) % 12) if e.day >= 0 else e for e in events]
    tuned, again = (backtest.tune(log(spark, log_), CUT.date(), OPTIONS) for log_ in (events, moved))
    assert tuned == again
    assert {row.users for row in tuned} == {4}
    assert {row.segment for row in tuned} == {"tuning"}
    assert {row.night for row in tuned} == {CUT.date() - timedelta(days=28)}


def test_the_best_half_life_is_that_of_the_highest_ndcg_and_the_shorter_of_equals() -> None:
    def rows(short: float, long: float) -> list[backtest.MetricRow]:
        values = {"half_life_5d": short, "half_life_50d": long}
        return [backtest.MetricRow(CUT.date(), m, "tuning", "ndcg@2", v, 9, None) for m, v in values.items()]

    assert backtest.best_half_life(rows(0.2, 0.3), OPTIONS) == 50.0
    assert backtest.best_half_life(rows(0.3, 0.3), OPTIONS) == 5.0


def scored(spark: SparkSession, scores: np.ndarray[Any, Any]) -> DataFrame:
    frame = pd.DataFrame(
        [
            {"user_id": f"u{user}", "item_id": f"i{item}", "score": score}
            for user, row in enumerate(scores)
            for item, score in enumerate(row.tolist())
        ]
    )
    return spark.createDataFrame(frame).withColumn("score", F.col("score").cast("float"))


def test_probabilities_are_judged_as_scikit_learn_does_over_all_pairs(spark: SparkSession) -> None:
    events = [
        *shopping(seed=5, users=40, items=30),
        Event(99, "new user", 1, 1.0),
        Event(0, "n", 7, 1.0, strength=-1.0),
    ]
    scores = (np.random.default_rng(0).random((40, 30)) ** 4).astype(np.float32)
    scores[:5, :3] = 0.0
    scores[5] = np.nextafter(np.float32(1), np.float32(0))
    labels = np.zeros(scores.shape)
    for e in events:
        if 0 <= e.day < 7 and e.user < 40 and e.strength > 0:
            labels[e.user, e.item] = 1
    published = PublishedScores("model", scored(spark, scores), users=40, horizon_days=7.0)
    rows = backtest.probability_metrics(log(spark, events), CUT.date(), published, OPTIONS)
    found, truth = values_of(rows, "model"), (labels.ravel(), scores.ravel().astype(np.float64))
    eps = np.finfo(np.float32).eps
    assert found["log_loss"] == pytest.approx(sk.log_loss(truth[0], np.clip(truth[1], eps, 1 - eps)))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(*truth))
    assert found["auc"] == pytest.approx(sk.roc_auc_score(*truth), abs=1e-3)
    assert found["base_rate"] == pytest.approx(labels.mean())
    assert found["mean_score"] == pytest.approx(scores.mean(dtype=np.float64))
    order = np.argsort(truth[1], kind="stable").reshape(10, -1)
    expected = np.abs(truth[1][order].mean(axis=1) - truth[0][order].mean(axis=1)).mean()
    assert found["calibration_error"] == pytest.approx(expected, abs=2e-3)

    past = {(e.user, e.item) for e in events if -7 <= e.day < 0}
    constant = values_of(rows, backtest.CONSTANT)
    assert constant["mean_score"] == pytest.approx(len(past) / scores.size)
    assert constant["auc"] == 0.5
    assert {row.users for row in rows} == {40}


def test_the_whole_backtest_is_one_table(spark: SparkSession) -> None:
    events = shopping(seed=6)
    nights = [
        Night(
            CUT.date(), scores=PublishedScores("model", scored(spark, np.full((9, 12), 0.1)), users=9, horizon_days=7.0)
        ),
        Night(CUT.date() + timedelta(days=1)),
    ]
    stages: list[str] = []
    found = backtest.evaluate(log(spark, events), nights, OPTIONS, on_stage=stages.append)
    assert [field.dataType for field in found.metrics.schema] == [field.dataType for field in schemas.METRICS]
    assert len(stages) == 4
    rows = found.metrics.collect()
    keys = [(row.night, row.model, row.segment, row.metric) for row in rows]
    assert len(keys) == len(set(keys))
    tables = backtest.summary(rows)
    assert [(row.night, row.segment, row.model) for row in tables][4:10] == [
        (CUT.date(), "all", model)
        for model in ("popularity", "personal_frequency", "half_life_tuned", "half_life_90d", "model", "constant_rate")
    ]
    assert set(tables[4].values) == {"recall@2", "recall@10", "ndcg@2", "ndcg@10"}
    assert found.tuned_half_life_days in OPTIONS.half_lives_days


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
        backtest.next_basket_metrics(log(spark, events), Night(CUT.date()), 20.0, OPTIONS)


def test_an_empty_score_table_is_missing_input(spark: SparkSession) -> None:
    empty = spark.createDataFrame([], "user_id string, item_id string, score float")
    with pytest.raises(InputMissingError, match="empty"):
        probability.score_bins(empty, empty.select("user_id", "item_id"))
