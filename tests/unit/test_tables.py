"""The files that a task writes, and what it says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from halflife.model.artifact import ItemSide
from halflife.scoring import tables

USERS = pa.array(["a", "b"])
ITEMS = pa.array(["x", "y", "z"])
DAY = 86_400.0


def night(bias: list[float]) -> tables.Night:
    side = ItemSide(np.array(bias, dtype=np.float32), np.zeros((3, 1), dtype=np.float32))
    return tables.Night(100 * DAY, np.array([7.0]), 7.0, ITEMS, np.arange(3, dtype=np.int32), side, top_n=2)


def block(pairs: list[list[dict[str, object]]]) -> pa.RecordBatch:
    pair = pa.struct(
        {
            "item_index": pa.int32(),
            "anchor_time": pa.timestamp("us", "UTC"),
            "positive": pa.list_(pa.float64()),
            "negative": pa.list_(pa.float64()),
            "event_count": pa.int64(),
        }
    )
    return pa.RecordBatch.from_arrays(
        [
            USERS,
            pa.array([None, None], pa.list_(pa.float32())),
            pa.array([None, None], pa.timestamp("us", "UTC")),
            pa.array(pairs, pa.list_(pair)),
        ],
        names=["user_id", "readouts", "anchor_time", "pairs"],
    )


def remembered(item: int) -> dict[str, object]:
    day = int(90 * DAY * 1e6)
    return {"item_index": item, "anchor_time": day, "positive": [1.0], "negative": [0.0], "event_count": 3}


def written(folder: Path, bias: list[float]) -> tuple[dict[str, pa.Table], list[dict[str, object]]]:
    folders = {table: folder / table for table in ("scores", "recommendations")}
    for place in folders.values():
        place.mkdir()
    with tables._Files(folders) as files:
        tables._write_block(block([[remembered(1)], []]), night(bias), files)
    said = [row for batch in files.written() for row in batch.to_pylist()]
    return {table: pq.read_table(place) for table, place in folders.items() if any(place.iterdir())}, said


def test_every_pair_has_a_row_and_the_task_says_what_it_wrote(tmp_path: Path) -> None:
    found, said = written(tmp_path, [-3.0, -3.0, -4.0])
    scores = found["scores"].to_pydict()
    assert scores["user_id"] == ["a"] * 3 + ["b"] * 3
    assert scores["item_id"] == ["x", "y", "z"] * 2
    assert [value > 0 for value in scores["memory"]] == [False, True, False, False, False, False]
    np.testing.assert_allclose(
        scores["score"], -np.expm1(-(np.array(scores["affinity"]) + np.array(scores["memory"]))), rtol=1e-6
    )
    (of_scores,) = (row for row in said if row["table"] == "scores")
    assert of_scores["rows"] == 6
    assert of_scores["highest"] == max(scores["score"])


def test_equal_items_stand_in_the_order_of_their_ids_and_each_has_its_reason(tmp_path: Path) -> None:
    found, _ = written(tmp_path, [-3.0, -3.0, -3.0])
    best = found["recommendations"].to_pydict()
    assert list(zip(best["user_id"], best["rank"], best["item_id"], strict=True)) == [
        ("a", 1, "y"),
        ("a", 2, "x"),
        ("b", 1, "x"),
        ("b", 2, "y"),
    ]
    assert best["reason"][0] == "3 events, last on 1970-04-01: 84% of the interest"
    assert set(best["reason"][1:]) == {"popular with similar histories"}


def test_items_of_which_nothing_is_expected_are_not_recommended(tmp_path: Path) -> None:
    found, _ = written(tmp_path, [-np.inf] * 3)
    assert found["recommendations"].column("item_id").to_pylist() == ["y"]


def test_a_score_that_is_no_number_is_said_and_not_hidden(tmp_path: Path) -> None:
    folders = {"scores": tmp_path}
    with tables._Files(folders) as files:
        for value in (0.1, np.nan, 0.2):
            files.write("scores", pa.table({"score": pa.array([value], pa.float32())}))
    (said,) = (row for batch in files.written() for row in batch.to_pylist())
    assert np.isnan(said["lowest"])
    assert np.isnan(said["highest"])
