"""Audits of what the tasks say they have written."""

from __future__ import annotations

import pytest
from pyspark.sql import Row

from halflife import audit
from halflife.errors import AuditError

NAN = float("nan")


def written(rows: int, lowest: float, highest: float) -> Row:
    return Row(table="scores", file="part-1.parquet", rows=rows, lowest=lowest, highest=highest)


def test_scores_of_every_pair_below_one_pass() -> None:
    lists = Row(table="recommendations", file="part-1.parquet", rows=3, lowest=2.0, highest=2.0)
    audit.scores([written(6, 0.0, 0.5), written(4, 0.1, 0.99), lists], pairs=10)


@pytest.mark.parametrize(
    ("rows", "lowest", "highest", "message"),
    [
        (9, 0.0, 0.5, "9 rows, expected 10"),
        (10, -0.1, 0.5, r"outside \[0, 1\)"),
        (10, 0.0, 1.0, r"outside \[0, 1\)"),
        (10, NAN, NAN, r"outside \[0, 1\)"),
    ],
)
def test_other_scores_stop_the_run(rows: int, lowest: float, highest: float, message: str) -> None:
    with pytest.raises(AuditError, match=message):
        audit.scores([written(rows, lowest, highest)], pairs=10)
