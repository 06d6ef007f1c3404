"""Audits of what the tasks say they have written, and of the account of the rows read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import Row

from halflife import audit
from halflife.errors import AuditError

NAN = float("nan")


def written(rows: int, lowest: float, highest: float) -> Row:
    return Row(table="scores", file="part-1.parquet", rows=rows, left_out=2, lowest=lowest, highest=highest)


def test_scores_of_every_pair_below_one_pass_with_those_that_the_floor_left_out() -> None:
    lists = Row(table="recommendations", file="part-1.parquet", rows=3, left_out=0, lowest=0.2, highest=0.3)
    assert audit.scores([written(4, 0.0, 0.5), written(2, 0.1, 0.99), lists], rows=10) == 4


@pytest.mark.parametrize(
    ("rows", "lowest", "highest", "message"),
    [
        (7, 0.0, 0.5, "9 rows, expected 10"),
        (8, -0.1, 0.5, r"outside \[0, 1\)"),
        (8, 0.0, 1.0, r"outside \[0, 1\)"),
        (8, NAN, NAN, r"outside \[0, 1\)"),
    ],
)
def test_other_scores_stop_the_run(rows: int, lowest: float, highest: float, message: str) -> None:
    with pytest.raises(AuditError, match=message):
        audit.scores([written(rows, lowest, highest)], rows=10)


@pytest.mark.parametrize("table", ["recommendations", "interest_by_category"])
def test_a_score_that_is_no_number_stops_the_run_whichever_table_it_is_in(table: str) -> None:
    other = Row(table=table, file="part-2.parquet", rows=3, left_out=0, lowest=NAN, highest=NAN)
    with pytest.raises(AuditError, match=rf"{table}: part-2\.parquet holds scores from nan to nan"):
        audit.scores([written(8, 0.0, 0.5), other], rows=10)


def intake(folder: Path, *rows: tuple[str, int, int, int, int]) -> Path:
    names = ["source_file", "rows_read", "accepted", "quarantined", "duplicates"]
    pq.write_table(pa.table(list(zip(*rows, strict=True)), names=names), folder / "part.parquet")
    return folder


def test_an_intake_that_adds_up_gives_its_totals(tmp_path: Path) -> None:
    found = audit.intake_adds_up(intake(tmp_path, ("a.csv", 6, 1, 2, 3), ("b.csv", 1, 1, 0, 0)))
    assert found == {"rows_read": 7, "accepted": 2, "quarantined": 2, "duplicates": 3}


def test_a_row_that_is_not_accounted_for_stops_the_run_though_another_file_has_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"a\.csv: 6 rows read, but 1 accepted \+ 2 quarantined \+ 2 duplicates"):
        audit.intake_adds_up(intake(tmp_path, ("a.csv", 6, 1, 2, 2), ("b.csv", 1, 1, 1, 0)))
