"""The benchmarks' log, the peer that the others are compared with, and the comparison itself."""

from __future__ import annotations

import importlib
import math
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
EVENTS, USERS, DAYS = 4_000, 12, 3


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of scripts/."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


@pytest.fixture
def log(scripts: Any, tmp_path: Path) -> Path:
    folder: Path = scripts("bench_log").Log(EVENTS, USERS, DAYS, items=40).cached(tmp_path / "logs")
    return folder


@pytest.fixture
def sequences(scripts: Any, log: Path, tmp_path: Path) -> Path:
    """What the DuckDB peer makes of the log."""
    output = tmp_path / "duckdb"
    output.mkdir()
    with duckdb.connect() as database:
        scripts("bench_duckdb").write_sequences(database, log, output)
    return output


def events_of(log: Path) -> list[dict[str, Any]]:
    return [
        event | {"date": path.parent.name} for path in parts(log) for event in pq.ParquetFile(path).read().to_pylist()
    ]


def parts(log: Path) -> list[Path]:
    return sorted(log.glob("date=*/part-0.parquet"))


def test_a_log_is_whole_and_the_same_each_time(scripts: Any, log: Path, tmp_path: Path) -> None:
    again = scripts("bench_log").Log(EVENTS, USERS, DAYS, items=40).cached(tmp_path / "again")
    assert [path.read_bytes() for path in parts(log)] == [path.read_bytes() for path in parts(again)]
    events = events_of(log)
    assert len(events) == EVENTS
    assert all(f"date={event['event_time'].date()}" == event["date"] for event in events)


def test_a_user_has_no_two_events_at_one_instant_and_no_session_of_twelve_hours(log: Path) -> None:
    times = defaultdict(list)
    for event in events_of(log):
        times[event["user_id"]].append(event["event_time"])
    longest = timedelta()
    for of_user in times.values():
        assert len(set(of_user)) == len(of_user)
        start = last = min(of_user)
        for time in sorted(of_user):
            start = time if time - last > timedelta(minutes=30) else start
            longest, last = max(longest, time - start), time
    assert timedelta(minutes=10) < longest < timedelta(hours=12)


def test_duckdb_makes_the_sequences_that_a_loop_makes(scripts: Any, log: Path, sequences: Path) -> None:
    made = {row["user_id"]: row for path in sequences.iterdir() for row in pq.read_table(path).to_pylist()}
    expected = by_a_loop(events_of(log), scripts("bench_processes").WEIGHTS)
    assert made.keys() == expected.keys()
    assert max(Counter(event["user_id"] for event in events_of(log)).values()) > 200  # so that some are cut
    for user, row in expected.items():
        assert made[user]["last_event_time"] == row.pop("last_event_time")
        for name, value in row.items():
            assert made[user][name] == pytest.approx(value, rel=1e-6), (user, name)


def by_a_loop(events: list[dict[str, Any]], weights: dict[str, float]) -> dict[str, dict[str, Any]]:
    user_index, item_index = (
        {name: index for index, (_, name) in enumerate(sorted(first_days(events, column)))}
        for column in ("user_id", "item_id")
    )
    rows: dict[str, list[list[float]]] = defaultdict(list)
    last: dict[Any, datetime] = {}
    seen: Counter[Any] = Counter()
    for event in sorted(events, key=lambda event: event["event_time"]):
        user, pair, time = event["user_id"], (event["user_id"], event["item_id"]), event["event_time"]
        gap, revisit_gap = ((time - last.get(key, time)).total_seconds() for key in (user, pair))
        position = rows[user][-1][7] + 1 if rows[user] and gap <= 1_800 else 0
        dwell = event["dwell_seconds"]
        factor = 1 if dwell is None else math.log2(1 + min(dwell, 3_600) / 60)
        kind = list(weights).index(event["event_type"])
        strength = weights[event["event_type"]] * factor
        numbers = [item_index[event["item_id"]], kind, strength, time.timestamp()]
        numbers += [math.log1p(gap), math.log1p(revisit_gap), seen[pair], position, time.hour, time.weekday()]
        rows[user].append(numbers)
        seen[pair] += 1
        last[user] = last[pair] = time
    names = ["item_index", "type_index", "strength", "event_seconds", "gap_log", "revisit_gap_log", "revisit_count"]
    names += ["session_position", "hour", "weekday"]
    sequences: dict[str, dict[str, Any]] = {}
    for user, of_user in rows.items():
        columns = zip(*of_user[-200:], strict=True)
        length = min(len(of_user), 200)
        sequences[user] = {name: [*column, *[0] * (200 - length)] for name, column in zip(names, columns, strict=True)}
        sequences[user] |= {"user_index": user_index[user], "length": length, "last_event_time": last[user]}
    return sequences


def first_days(events: list[dict[str, Any]], column: str) -> set[tuple[str, str]]:
    days: dict[str, str] = {}
    for event in events:
        days[event[column]] = min(event["date"], days.get(event[column], "~"))
    return {(day, name) for name, day in days.items()}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("* REPLACE (list_transform(hour, lambda x: (x + 1) % 24) AS hour)", "hour"),
        ("* REPLACE (list_transform(gap_log, lambda x: (x * 1.00001)::FLOAT) AS gap_log)", "gap_log"),
        ("* REPLACE (make_timestamptz(0) AS last_event_time)", "last_event_time"),
        ("* REPLACE (NULL::FLOAT[] AS strength)", "strength"),
    ],
)
def test_a_difference_in_one_column_is_found(
    scripts: Any, sequences: Path, tmp_path: Path, change: str, found: str
) -> None:
    assert found in scripts("bench_sessionize").difference(changed(sequences, tmp_path, f"SELECT {change}"), sequences)


def test_a_user_without_a_sequence_is_found_and_rounding_is_not(scripts: Any, sequences: Path, tmp_path: Path) -> None:
    difference = scripts("bench_sessionize").difference
    assert difference(sequences, sequences) is None
    assert "users" in difference(changed(sequences, tmp_path / "fewer", "SELECT *", "WHERE user_index > 0"), sequences)
    rounded = "SELECT * REPLACE (list_transform(gap_log, lambda x: (x * 1.0000002)::FLOAT) AS gap_log)"
    assert difference(changed(sequences, tmp_path / "rounded", rounded), sequences) is None


def changed(sequences: Path, folder: Path, select: str, where: str = "") -> Path:
    folder = folder / "changed"
    folder.mkdir(parents=True)
    duckdb.sql(f"{select} FROM '{sequences}/*.parquet' {where}").write_parquet(f"{folder}/0.parquet")
    return folder


def test_the_figures_of_training_are_seconds_for_the_same_sequences(scripts: Any) -> None:
    bench, measured = scripts("bench_train"), scripts("bench_processes").Measured
    seconds = {"ours": 10.0, "memory_fed": 9.5, "one_rank": 17.0, "keras_fit": 11.0, "not_ahead": 10.5}
    costs = {
        name: measured(cost, cost + 20, cost, 2**30, {"sequences": 640, "cpu_seconds": cost})
        for name, cost in seconds.items()
    }
    line = bench.record(costs)
    assert (line["bench"], line["sequences"], line["ours_s"], line["rss_mb"]) == ("train", 640, 10.0, 1024)
    assert line["peers_s"] == {name: cost for name, cost in seconds.items() if name != "ours"}
    assert [reached for _, reached in bench.verdicts(costs)] == [True, True, False]


def test_concordance_is_the_share_of_ordered_pairs(scripts: Any) -> None:
    rng = np.random.default_rng(2)
    score, bought = rng.integers(0, 6, 60).astype(float), rng.poisson(1.0, 60)
    pairs = [(i, j) for i in range(60) for j in range(60) if bought[i] > bought[j]]
    right = sum((score[i] > score[j]) + (score[i] == score[j]) / 2 for i, j in pairs)
    assert scripts("bench_cdnow").concordance(score, bought) == pytest.approx(right / len(pairs))


def test_a_score_in_classes_keeps_its_order_and_has_the_ties_of_another(scripts: Any) -> None:
    in_classes = scripts("bench_cdnow").in_classes
    like = np.array([1.0, 3.0, 1.0, 2.0, 1.0])
    assert in_classes(np.array([0.5, 0.1, 0.9, 0.3, 0.7]), like).tolist() == [1, 1, 3, 1, 2]
    assert in_classes(like, like).tolist() == like.tolist()
    assert in_classes(np.array([5.0, 0.0, 5.0, 5.0, 0.0]), like).tolist() == [2, 1, 2, 2, 1]


def test_half_lives_of_users_are_those_of_the_same_events(scripts: Any) -> None:
    truth = scripts("bench_truth_job")

    def jumps(events: dict[str, Any]) -> Any:
        """User 3's events last in the channel of 4 days, all others' in that of a day, but for long silences."""
        slow = (events["user_index"] == 3) | (events["revisit_gap_seconds"] > 1e6)
        return np.stack([1.0 - slow, slow], axis=1) * events["strength"][:, None]

    model = SimpleNamespace(half_lives_days=np.array([1.0, 4.0]), horizon_days=1e5, jumps=jumps)
    silent, strength = np.array([0.0, 2e6]), np.array([0.5, 2.0])
    events = pd.DataFrame(dict.fromkeys(truth.EVENT_COLUMNS, silent) | {"strength": strength})
    assert truth.log_days(model, events, np.array([3, 8, 1])) == pytest.approx([2.0, 1.0, 1.0])


def test_a_model_is_judged_over_its_seeds_beside_the_best_baseline(scripts: Any) -> None:
    seeds = scripts("bench_seeds")

    def rows(ndcg: float) -> list[dict[str, Any]]:
        ours = dict.fromkeys(seeds.FIGURES, 0.01) | {"ndcg@10": ndcg, "recall@10": ndcg, "log_loss": 0.0012}
        law = dict.fromkeys(seeds.FIGURES, 0.02) | {"ndcg@10": 0.2, "recall@10": 0.2, "log_loss": 0.0013}
        models = {"halflife": ours, "half_life_tuned": law, "popularity": {"log_loss": 0.0011}}
        return [
            {"segment": segment, "model": model, "metric": metric, "value": value if segment == "all" else 9.0}
            for segment in ("all", "repeat")
            for model, values in models.items()
            for metric, value in values.items()
        ] + [{"segment": "all", "model": "halflife", "metric": "ndcg@10", "value": 0.1, "baseline": "half_life_tuned"}]

    verdicts = seeds.verdicts([seeds.figures_of(rows(ndcg)) for ndcg in (0.20, 0.23)])
    assert [reached for _, reached in verdicts] == [True, True, False, False, True]
    assert verdicts[0][0].startswith("ndcg@10 / tuned half-life: 1.07, ")


def test_tables_of_scores_are_compared_pair_by_pair_whatever_their_files_are_called(
    scripts: Any, tmp_path: Path
) -> None:
    def table(name: str, user: str, items: list[str], scores: list[float]) -> Path:
        columns = {"user_id": [user] * len(items), "item_id": items, "score": np.array(scores, dtype=np.float32)}
        pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    difference = scripts("bench_rebuild").difference
    these = [table("2", "ann", ["a"], [0.9]), table("1", "bob", ["a", "b", "c"], [0.1, 0.2, 0.3])]
    first = table("3", "ann", ["a"], [0.9])
    found = difference(these, [first, table("4", "bob", ["a", "b", "d"], [0.1, 0.25, 0.3])])
    assert (found.rows, found.other_pairs, found.differ) == (4, 1, 1)
    assert found.largest == pytest.approx(0.05)
    assert difference(these, [first, table("5", "bob", ["a", "b"], [0.1, 0.2])]).other_pairs == 1
