"""The files that a task writes, and what it says of them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halflife.config import ScoreConfig
from halflife.model.artifact import ItemSide
from halflife.scoring import order, precision, tables
from halflife.scoring import remembered as packing
from halflife.scoring.pairs import block_of
from halflife.scoring.rollups import Categories

USERS = pa.array(["a", "b"])
ITEMS = pa.array(["x", "y", "z"])
DAY = 86_400.0


def night(bias: list[float]) -> tables.Night:
    return tables.Night(
        at_seconds=100 * DAY,
        half_lives_days=np.array([7.0]),
        horizon_days=7.0,
        event_types=("view", "purchase"),
        ids=ITEMS,
        categories=Categories(["low", "high"], np.array([0, 0, 1], dtype=np.int32)),
        position=np.array([2, 1, 0], dtype=np.int32),  # z has index 0
        side=ItemSide(np.array(bias, dtype=np.float32), np.zeros((3, 1), dtype=np.float32)),
    )


def block(pairs: list[list[dict[str, object]]]) -> order.States:
    """Users without events and their rows of memory, as the tasks get them."""
    time, values = pa.timestamp("us", "UTC"), pa.list_(pa.float64())
    kinds = {"item_index": pa.int32(), "anchor_time": time, "positive": values}
    kinds |= {"negative": values, "event_count": pa.int64(), "leading_time": time, "leading_type": pa.int32()}
    schema = pa.schema({**kinds, "leading": values})
    at = night([0.0] * 3)
    memory = pa.RecordBatch.from_pylist([row for of_user in pairs for row in of_user], schema)
    return order.States(
        readouts=np.zeros((2, 1, 1), dtype=np.float32),
        anchor_seconds=np.full(2, -np.inf),
        user=block_of([len(of_user) for of_user in pairs]),
        pairs=packing.pack(memory, at.at_seconds, at.half_lives_days, at.horizon_days),
    )


def remembered(item: int, events: int = 3) -> dict[str, object]:
    day = int(90 * DAY * 1e6)
    return {
        "item_index": item,
        "anchor_time": day,
        "positive": [1.0],
        "negative": [0.0],
        "event_count": events,
        "leading_time": day - int(7 * DAY * 1e6),
        "leading_type": 1,
        "leading": [1.0],
    }


def written(
    folder: Path,
    bias: list[float],
    pairs: list[list[dict[str, object]]] | None = None,
    **options: object,
) -> tuple[dict[str, pa.Table], list[dict[str, object]]]:
    """The tables of one block, and what is said of them."""
    folders = {table: folder / table for table in tables.DICTIONARY}
    for place in folders.values():
        place.mkdir(parents=True)
    config = ScoreConfig(**{"top_n": 2, **options})  # type: ignore[arg-type]
    with tables.range_files(folders, config) as files:
        states = block([[remembered(1)], []] if pairs is None else pairs)
        tables.Block(night(bias), config).write(USERS, states, files)
    said = files.written().to_pylist()
    return {table: pq.read_table(place) for table, place in folders.items()}, said


def pairs_of(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True))


def test_every_pair_has_a_row_and_the_task_says_what_it_wrote(tmp_path: Path) -> None:
    found, said = written(tmp_path, [-3.0, -3.0, -4.0])
    scores = found["scores"].to_pydict()
    assert scores["user_id"] == ["a"] * 3 + ["b"] * 3
    assert scores["item_id"] == ["x", "y", "z"] * 2
    assert [value > 0 for value in scores["memory"]] == [False, True, False, False, False, False]
    np.testing.assert_allclose(
        scores["score"], -np.expm1(-(np.array(scores["affinity"]) + np.array(scores["memory"]))), rtol=0, atol=1e-6
    )
    (of_scores,) = (row for row in said if row["table"] == "scores")
    assert of_scores["rows"] == sum(of_scores["histogram"]) == 6
    np.testing.assert_allclose(of_scores["highest"], max(scores["score"]), atol=2**-21)  # before it was rounded


def test_equal_items_stand_in_the_order_of_their_ids_and_each_has_its_reason(tmp_path: Path) -> None:
    found, _ = written(tmp_path, [-3.0, -3.0, -3.0])
    best = found["recommendations"].to_pydict()
    assert list(zip(best["user_id"], best["rank"], best["item_id"], strict=True)) == [
        ("a", 1, "y"),
        ("a", 2, "x"),
        ("b", 1, "x"),
        ("b", 2, "y"),
    ]
    assert best["reason"][0] == "purchase on 1970-03-25: 42% of the interest, 84% with all 3 events"
    assert set(best["reason"][1:]) == {"popular with similar histories"}


def test_items_of_which_nothing_is_expected_are_not_recommended(tmp_path: Path) -> None:
    found, _ = written(tmp_path, [-np.inf] * 3)
    assert found["recommendations"].column("item_id").to_pylist() == ["y"]


def test_a_score_that_is_no_number_is_said_and_not_hidden(tmp_path: Path) -> None:
    _, said = written(tmp_path, [-3.0, -3.0, -4.0])
    assert all(row["highest"] < 1 for row in said)
    folders = {"scores": tmp_path, "recommendations": tmp_path}
    with tables.range_files(folders, ScoreConfig()) as files:
        for value in (0.1, np.nan, 0.2):
            rows = pa.table({"score": pa.array([value], pa.float32())})
            files.write("scores", rows, np.array([value], dtype=np.float32))
    (of_scores,) = (row for row in files.written().to_pylist())
    assert np.isnan(of_scores["lowest"])
    assert np.isnan(of_scores["highest"])


def test_observed_are_the_pairs_with_memory_and_top_n_those_recommended(tmp_path: Path) -> None:
    bias = [-3.0, -5.0, -4.0]
    observed, _ = written(tmp_path / "observed", bias, output="observed")
    assert pairs_of(observed["scores"]) == [("a", "y")]
    best, _ = written(tmp_path / "top_n", bias, output="top_n")
    assert pairs_of(best["scores"]) == sorted(pairs_of(best["recommendations"]))
    every, _ = written(tmp_path / "all", bias)
    rows = every["scores"].to_pylist()
    assert all(row in rows for row in best["scores"].to_pylist() + observed["scores"].to_pylist())


def test_what_is_below_the_floor_is_left_out_and_counted(tmp_path: Path) -> None:
    every, _ = written(tmp_path / "all", [-3.0, -5.0, -4.0], encoding="float32")
    found, said = written(tmp_path / "floor", [-3.0, -5.0, -4.0], encoding="float32", floor=0.1)
    kept = [row for row in every["scores"].to_pylist() if row["score"] >= 0.1]
    assert 0 < len(kept) < 6
    assert found["scores"].to_pylist() == kept
    (of_scores,) = (row for row in said if row["table"] == "scores")
    assert (of_scores["rows"], of_scores["left_out"]) == (len(kept), 6 - len(kept))
    assert found["recommendations"] == every["recommendations"]


def test_a_block_of_which_nothing_is_written_is_an_empty_table(tmp_path: Path) -> None:
    found, said = written(tmp_path, [-9.0] * 3, pairs=[[], []], output="observed")
    assert found["scores"].num_rows == 0
    assert {row["table"]: row["rows"] for row in said} == {"scores": 0, "recommendations": 4, "interest_by_category": 4}


def test_arrays_hold_each_score_at_its_items_index(tmp_path: Path) -> None:
    rows, _ = written(tmp_path / "rows", [-3.0, -5.0, -4.0])
    arrays, said = written(tmp_path / "arrays", [-3.0, -5.0, -4.0], layout="arrays")
    by_item = np.array(rows["scores"]["score"]).reshape(2, 3)
    assert arrays["scores"]["user_id"].to_pylist() == ["a", "b"]
    np.testing.assert_array_equal(np.stack(arrays["scores"]["score"].to_pylist()), by_item[:, ::-1])
    assert next(row["rows"] for row in said if row["table"] == "scores") == 2


@pytest.mark.parametrize("layout", ["rows", "arrays"])
def test_eight_bits_are_read_back_by_the_formula_in_the_file(tmp_path: Path, layout: str) -> None:
    exact, _ = written(tmp_path / "exact", [-3.0, -5.0, -np.inf], encoding="float32", layout=layout)
    found, _ = written(tmp_path / "codes", [-3.0, -5.0, -np.inf], encoding="uint8", layout=layout)
    assert b"2^(c / 10 - 21.3)" in found["scores"].schema.metadata[b"halflife.encoding"]
    codes, scores = (table["scores"]["score"].combine_chunks() for table in (found, exact))
    if layout == "arrays":
        codes, scores = codes.flatten(), scores.flatten()
    assert codes.type == pa.uint8()
    np.testing.assert_allclose(-np.expm1(-precision.strengths(codes.to_numpy())), scores.to_numpy(), rtol=0.036)


@pytest.mark.parametrize(
    "options", [{}, {"output": "observed"}, {"floor": 0.1}, {"layout": "arrays"}, {"max_per_category": 1}]
)
def test_a_block_is_the_same_in_one_part_and_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    pairs = [[remembered(1)], [remembered(0), remembered(2)]]
    whole = written(tmp_path / "whole", [-3.0, -5.0, -4.0], pairs, **options)
    monkeypatch.setattr(tables, "PART_PAIRS", 1)
    tables_of_parts, said = written(tmp_path / "parts", [-3.0, -5.0, -4.0], pairs, **options)
    assert tables_of_parts == whole[0]
    assert [{**row, "file": ""} for row in said] == [{**row, "file": ""} for row in whole[1]]


def test_seen_items_can_be_left_out_of_the_recommendations(tmp_path: Path) -> None:
    found, _ = written(tmp_path, [-3.0, -3.0, -4.0], exclude_seen=True)
    assert pairs_of(found["recommendations"]) == [("a", "x"), ("a", "z"), ("b", "x"), ("b", "y")]


def test_interest_by_category_is_the_sum_of_the_strengths_behind_the_scores(tmp_path: Path) -> None:
    found, _ = written(tmp_path, [-3.0, -3.0, -4.0], encoding="float32")
    scores, interest = (found[table].to_pylist() for table in ("scores", "interest_by_category"))
    assert [(row["user_id"], row["category"]) for row in interest] == list(product("ab", ["low", "high"]))
    for row in interest:
        items = "xy" if row["category"] == "low" else "z"
        own = [score for score in scores if score["user_id"] == row["user_id"] and score["item_id"] in items]
        strength = sum(max(score["affinity"] + score["memory"], 0) for score in own)
        np.testing.assert_allclose([row["strength"], row["score"]], [strength, -np.expm1(-strength)], rtol=1e-5)


def test_a_category_has_at_most_so_many_recommendations(tmp_path: Path) -> None:
    found, _ = written(tmp_path, [-3.0, -3.0, -4.0], max_per_category=1)
    assert pairs_of(found["recommendations"]) == [("a", "y"), ("a", "z"), ("b", "x"), ("b", "z")]


def test_statistics_lead_to_the_users_of_a_row_group(tmp_path: Path) -> None:
    written(tmp_path, [-3.0, -3.0, -4.0])
    (file,) = (tmp_path / "scores").iterdir()
    users = pq.read_metadata(file).row_group(0).column(0)
    assert users.path_in_schema == "user_id"
    assert (users.statistics.min, users.statistics.max) == ("a", "b")
