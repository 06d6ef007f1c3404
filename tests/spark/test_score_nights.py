"""Nights of the score job with holes in them: what is new, gone, late, missed or silent, by the exponential law."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from halflife.decay import decay_integral
from halflife.errors import AuditError
from halflife.warehouse.amendment import amend
from scored_log import FIRST, Nights


def law(day: int, *events: tuple[int, int]) -> float:
    """Score of a night from events at (day, hour)."""
    ages = [day - (at + hour / 24) for at, hour in events]
    return float(-np.expm1(-decay_integral(ages, [10.0], 7.0).sum()))


@pytest.fixture(scope="module")
def nights(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    """Five nights: a first one, one with new ids, one without events, one missed, one after a withdrawal."""
    made = Nights(tmp_path_factory.mktemp("holes"))
    made.log(0, ("anna", "apple", 8), ("anna", "apple", 20), ("ben", "pear", 9))
    made.run(1)
    made.log(1, ("carl", "kiwi", 7), ("anna", "pear", 7))
    made.run(2)
    made.run(3)
    made.log(3, ("ben", "apple", 1))
    made.log(4, ("ben", "plum", 2))
    made.assortment("apple", "pear")
    made.run(5)
    return made


def test_a_night_without_a_model_is_scored_by_the_law(nights: Nights) -> None:
    assert nights.figures(1)["model_kind"] == "exponential"
    found = nights.scores(1)
    assert found["anna", "apple"] == pytest.approx(law(1, (0, 8), (0, 20)), abs=1e-6)
    assert found["ben", "pear"] == pytest.approx(law(1, (0, 9)), abs=1e-6)


def test_the_manifest_tells_how_the_scores_are_distributed(nights: Nights) -> None:
    histogram = nights.figures(2)["score_histogram"]
    assert isinstance(histogram, dict)
    counted, _ = np.histogram([*nights.scores(2).values()], bins=histogram["edges"])
    assert histogram["counts"] == counted.tolist()


def test_an_item_without_events_has_a_score(nights: Nights) -> None:
    assert nights.scores(1)["anna", "plum"] == 0.0  # the law knows no popularity


def test_ids_that_appear_tonight_are_scored_with_all_others(nights: Nights) -> None:
    before, found = nights.scores(1), nights.scores(2)
    assert len(before) == 2 * 3
    assert len(found) == 3 * 4
    assert found["carl", "kiwi"] == pytest.approx(law(2, (1, 7)), abs=1e-6)
    assert found["ben", "kiwi"] == found["carl", "apple"] == 0.0


def test_on_a_night_without_events_everything_has_decayed_by_a_day(nights: Nights) -> None:
    assert (nights.figures(3)["encoded"], nights.figures(3)["skipped"]) == (0, 3)
    before, found = nights.scores(2), nights.scores(3)
    assert found.keys() == before.keys()
    for pair, value in found.items():
        faded = -np.expm1(np.log1p(-before[pair]) * 2 ** (-1 / 10))
        assert value == pytest.approx(faded, abs=2e-6)


def test_a_night_that_was_missed_is_caught_up(nights: Nights) -> None:
    found = nights.scores(5)
    assert found["ben", "apple"] == pytest.approx(law(5, (3, 1)), abs=1e-6)
    assert found["ben", "plum"] == pytest.approx(law(5, (4, 2)), abs=1e-6)
    assert found["anna", "pear"] == pytest.approx(law(5, (1, 7)), abs=1e-6)


def test_an_item_that_left_the_catalogue_keeps_its_score(nights: Nights) -> None:
    assert nights.scores(5)["ben", "plum"] > 0


def test_what_is_late_or_taken_back_gives_the_night_that_a_rebuild_gives(spark: SparkSession, tmp_path: Path) -> None:
    told, rebuilt = Nights(tmp_path / "told"), Nights(tmp_path / "rebuilt")
    told.log(0, ("anna", "apple", 8), ("anna", "pear", 9), ("ben", "pear", 9))
    told.log(1, ("anna", "apple", 5), ("ben", "plum", 5))
    told.run(2)
    # Of the second day, one event was not there and one came late, before one that was known.
    second = (("anna", "apple", 5), ("anna", "apple", 3))
    told.log(1, *second)
    told.log(2, ("anna", "pear", 6))
    told.run(2, 3)
    rebuilt.log(0, ("anna", "apple", 8), ("anna", "pear", 9), ("ben", "pear", 9))
    rebuilt.log(1, *second)
    rebuilt.log(2, ("anna", "pear", 6))
    rebuilt.run(3)
    assert told.table("memory", 3) == rebuilt.table("memory", 3)
    assert told.scores(3) == rebuilt.scores(3)
    assert datetime(2026, 5, 2, 5, tzinfo=UTC) in {row[2] for row in told.table("memory", 3)}


def test_a_memory_that_has_lost_an_event_stops_the_next_night(spark: SparkSession, tmp_path: Path) -> None:
    made = Nights(tmp_path)
    made.log(0, ("anna", "apple", 8), ("ben", "pear", 9))
    made.run(1)

    def without_a_pair(table: str, file: Path, fresh: Path) -> bool:
        if table == "memory":
            pq.write_table(pq.read_table(file).slice(1), fresh)
        return table == "memory"

    amend(made.store, "score", FIRST + timedelta(days=1), without_a_pair)
    with pytest.raises(AuditError, match="the events of memory: 1 rows, expected 2"):
        made.run(2)
