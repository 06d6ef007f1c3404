"""A row group of published scores counted beside what followed, whatever the order of its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halflife.errors import InputMissingError
from halflife.evaluation import probability
from halflife.evaluation.probability import RowGroup
from halflife.evaluation.segments import ALL, REPEAT_ITEM
from halflife.evaluation.tally import ALL_BINS, KEY

IDS = st.text("abä😀", max_size=3)
USERS, ITEMS = ["ann", "bob", "cid"], ["tea", "milk", "bread", "soap"]
# The users of the row group and one of another, each with its bucket; then pairs: known before, strength of what came.
ROWS = pd.DataFrame(
    [
        ("ann", 0, None, None, None),
        ("bob", 7, None, None, None),
        ("cid", 7, None, None, None),
        ("dan", 3, None, None, None),
        ("ann", 0, "milk", True, 2.0),
        ("bob", 7, "soap", False, 1.0),
        ("cid", 7, "tea", True, 0.0),
        ("cid", 7, "gone", True, 5.0),
        ("dan", 3, "tea", True, 1.0),
    ],
    columns=["user_id", "bucket", "item_id", "known", "strength"],
)


def counted(folder: Path, order: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pd.DataFrame:
    """The tally of one row group of all pairs, whose rows stand in an order."""
    score = np.linspace(0.05, 0.6, len(USERS) * len(ITEMS)).astype(np.float32)
    table = pa.table(
        {
            "user_id": np.repeat(USERS, len(ITEMS)),
            "item_id": np.tile(ITEMS, len(USERS)),
            "score": score,
            "affinity": -np.log1p(-score),
            "memory": np.zeros(score.size, dtype=np.float32),
        }
    ).take(pa.array(order))
    pq.write_table(table, folder / "scores.parquet")
    (group,) = probability.row_groups([folder / "scores.parquet"])
    assert (group.rows, group.first_user, group.last_user) == (12, "ann", "cid")
    return probability._tallied(group, ROWS).sort_values(["segment", *KEY], ignore_index=True)


@given(st.lists(st.tuples(IDS, IDS).map(sorted), min_size=1), st.lists(IDS))
def test_a_user_is_looked_for_in_every_row_group_that_may_have_it(ranges: list[list[str]], user_ids: list[str]) -> None:
    groups = [RowGroup("", place, 1, first, last) for place, (first, last) in enumerate(ranges)]
    row, number = probability.groups_of(groups, np.array(user_ids, dtype=object))
    assert sorted(zip(row.tolist(), number.tolist(), strict=True)) == [
        (at, place)
        for at, user_id in enumerate(user_ids)
        for place, (first, last) in enumerate(ranges)
        if first <= user_id <= last
    ]


def test_outcomes_find_their_pairs_and_others_do_not_count(tmp_path: Path) -> None:
    found = counted(tmp_path, np.arange(12))
    sums = found[found["bin"] == ALL_BINS].set_index(["segment", "bucket"])
    assert sums.loc[ALL, "pairs"].to_dict() == {0: 4.0, 7: 8.0}
    assert sums.loc[ALL, "observed"].to_dict() == {0: 2.0, 7: 1.0}
    assert sums.loc[REPEAT_ITEM, "pairs"].to_dict() == {0: 1.0, 7: 1.0}
    assert sums.loc[REPEAT_ITEM, "positives"].to_dict() == {0: 1.0, 7: 0.0}
    assert sums.loc[REPEAT_ITEM, "score_sum"].to_dict() == pytest.approx({0: 0.1, 7: 0.45})


def test_the_order_of_rows_makes_no_difference(tmp_path: Path) -> None:
    shuffled = counted(tmp_path, np.random.default_rng(0).permutation(12))
    pd.testing.assert_frame_equal(shuffled, counted(tmp_path, np.arange(12)))


def test_files_without_a_pair_are_missing_input(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": pa.array([], pa.string())}), tmp_path / "scores.parquet")
    with pytest.raises(InputMissingError, match="empty"):
        probability.row_groups([tmp_path / "scores.parquet"])
